"""Inputs that two networks dream of: noise that moves to where both are sure of an answer.

Networks are trained to differ on data and not on noise, and what they learned is in their gradients: along these lie
directions of the data (inputs made from a network stand in for its data in Yin et al. 2020, DeepInversion). The dream
looks at outputs alone, so it is the same for every relabelling, and at both networks alike.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
STEPS = 10
RATE = 0.3


def dream(
    respond: Callable[[PyTree, jax.Array], jax.Array],
    a: PyTree,
    b: PyTree,
    inputs: jax.Array,
    *,
    steps: int = STEPS,
    rate: float = RATE,
) -> jax.Array:
    """The inputs `[m, ...]` after so many steps up the log-probability that a and b give to a class.

    Input k dreams of class k modulo the number of classes. A step has a root mean square of `rate` in each input.

    Args:
      respond: `(params, inputs) -> logits [m, classes]`.
    """

    def sure(x):
        logits = jnp.stack([respond(params, x) for params in (a, b)])
        wanted = jnp.arange(logits.shape[1]) % logits.shape[2]
        return jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[None, :, None], 2).sum()

    def step(x, _):
        up = jax.grad(sure)(x)
        size = jnp.mean(up**2, tuple(range(1, up.ndim)), keepdims=True)
        return x + rate * up * jax.lax.rsqrt(size + 1e-20), None

    return jax.lax.scan(step, inputs, length=steps)[0]
