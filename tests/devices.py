"""What methods find, as one line a method, to be compared between runs and numbers of devices."""

import hashlib

import jax
import numpy as np

from dwalign import Data, apply, matching, networks
from dwalign.symmetry import random_perms
from tests import drawn

NET = networks.cnn((8, 8, 1), (4, 6), (8,), 3)
METHODS = ("weight_matching@3", "features+weight_matching", "activation_matching", "refine@3")


def found(method: str) -> str:
    """A digest of all that a method finds for two networks: permutations, scores, history, to the last bit."""
    data = Data(drawn.normal(32, 8, 8, 1, seed=1), np.arange(32) % 3)
    a, b = (drawn.weights(NET.params, seed) for seed in (0, 1))
    b = apply.permute(NET.spec, b, random_perms(NET.spec, jax.random.key(1)))
    alignment = matching.find_method(method)(NET, a, b, key=jax.random.key(0), data=data)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(alignment))).hexdigest()[:16]


if __name__ == "__main__":
    print(jax.device_count(), "devices")
    for method in METHODS:
        print(method, found(method))
