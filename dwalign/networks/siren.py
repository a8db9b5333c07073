"""SIREN: implicit neural representations with sine activations (Sitzmann et al. 2020)."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Positive, Widths, bounded
from dwalign.networks.network import from_module
from dwalign.program import Network

PyTree = Any


def _uniform(bound: float):
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Siren(nn.Module):
    """Dense layers with `sin(omega * x)` between; inputs are coordinates `[batch, inputs]`."""

    widths: Sequence[int]
    outputs: int
    omega: float = 30.0

    @nn.compact
    def __call__(self, x):
        for k, width in enumerate((*self.widths, self.outputs)):
            bound = 1 / x.shape[-1] if k == 0 else math.sqrt(6 / x.shape[-1]) / self.omega
            x = nn.Dense(width, kernel_init=_uniform(bound), bias_init=_uniform(bound), name=f"dense_{k}")(x)
            x = jnp.sin(self.omega * x) if k < len(self.widths) else x
        return x


def fix_signs(params: PyTree) -> PyTree:
    """The same function with no negative bias in hidden layers.

    The sine is odd: negating all that enters a unit and all that leaves it changes nothing. Trained networks have every
    unit in either sign, which no permutation can undo.
    """
    layers = [dict(params["params"][f"dense_{k}"]) for k in range(len(params["params"]))]
    for before, after in itertools.pairwise(layers):
        sign = jnp.where(before["bias"] < 0, -1.0, 1.0)
        before |= {"kernel": before["kernel"] * sign[None], "bias": before["bias"] * sign}
        after["kernel"] = after["kernel"] * sign[:, None]
    return {"params": {f"dense_{k}": layer for k, layer in enumerate(layers)}}


@bounded
def siren(inputs: Count = 2, widths: Widths = (32, 32, 32), outputs: Count = 1, omega: Positive = 30.0) -> Network:
    """A SIREN from coordinates to values (2 to 1: a grey picture).

    Args:
      omega: the frequency that every hidden layer multiplies by.
    """
    config = {"kind": "siren", "inputs": inputs, "widths": list(widths), "outputs": outputs, "omega": omega}
    return from_module(Siren(tuple(widths), outputs, omega), np.zeros((1, inputs), np.float32), config)
