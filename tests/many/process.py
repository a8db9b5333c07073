"""One of several processes that train networks and align them: FOLDER ADDRESS COUNT NUMBER."""

import sys
from pathlib import Path

import jax
import numpy as np

from dwalign import align_many, zoo
from dwalign.networks import mlp
from dwalign.program import Data


def work(folder):
    rng, net = np.random.default_rng(0), mlp(6, (5,), 3)
    data = Data(rng.standard_normal((16, 6)).astype(np.float32), np.arange(16) % 3)
    recipe = zoo.Recipe(epochs=1, batch_size=16)
    networks = zoo.make_networks(net, data, recipe, 5, folder=folder / "zoo", shard=3, batch=3)
    pairs = np.argwhere(~np.eye(5, dtype=bool))
    align_many(net, networks, pairs, folder=folder / "pairs", batch=8, part=10)


if __name__ == "__main__":
    folder, address, count, number = sys.argv[1:]
    jax.distributed.initialize(address, int(count), int(number))
    work(Path(folder))
