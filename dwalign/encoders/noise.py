"""The noise encoder: what units answer to pseudo-random inputs, which fit every network.

It is the probe encoder on inputs that nobody has to know and that are the same for both networks, a random projection
of what is fixed in them. All that is learned is how much each kind of response counts: nothing that belongs to a width,
a depth or a role, so that its parameters serve every program whose inputs are real numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.encoders.probe import ProbeEncoder
from dwalign.encoders.registry import EncoderShape, encoder
from dwalign.program import Network

# of .3 and 1 the one whose correlations leave the lower barrier on MLPs for digits
SCALE = 0.3


def noise(example: Any, count: int) -> np.ndarray:
    """Pseudo-random inputs `[count, ...]` of the shape and type of `example` `[m, ...]`; the same in every process.

    Values are independent and normal, with a standard deviation of 0.3.

    Raises:
      ValueError: the example is no single array of real numbers: what tokens may be, say, is not known.

    >>> noise(np.zeros((1, 8, 8, 1), np.float32), 16).shape
    (16, 8, 8, 1)
    """
    # an array in a tuple or a dictionary is no array
    if not hasattr(example, "dtype") or not example.ndim or not jnp.issubdtype(example.dtype, jnp.floating):
        raise ValueError(
            "noise: a network whose inputs are drawn at random must take one array [m, ...] of real numbers, found "
            f"{jax.tree.map(lambda leaf: str(leaf.dtype), example)}; give inputs of the kind that it is for"
        )
    shape = (count, *example.shape[1:])
    return np.random.default_rng(0).normal(scale=SCALE, size=shape).astype(example.dtype)


@encoder("noise")
def _make(network: Network, shape: EncoderShape, probes: Any) -> ProbeEncoder:
    return ProbeEncoder(network.spec, network.capture, probes, rounds=0, learned=False, weighed=True)
