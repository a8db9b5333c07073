"""SIREN: implicit neural representations with sine activations (Sitzmann et al. 2020)."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.networks.network import Network, from_module


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


def siren(inputs: int = 2, widths: Sequence[int] = (32, 32, 32), outputs: int = 1, omega: float = 30.0) -> Network:
    """A SIREN from coordinates to values (2 to 1: a grey picture).

    Args:
      omega: the frequency that every hidden layer multiplies by.
    """
    if not widths:
        raise ValueError("siren: widths must name at least one hidden layer, otherwise there is nothing to align")
    config = {"kind": "siren", "inputs": inputs, "widths": list(widths), "outputs": outputs, "omega": omega}
    return from_module(Siren(tuple(widths), outputs, omega), jnp.zeros((1, inputs)), config)
