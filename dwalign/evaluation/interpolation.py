"""The straight line between two networks: loss and accuracy along it, barrier and area."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any


class Curve(NamedTuple):
    """Loss and accuracy at `(1 - lambda) a + lambda b`; leaves `[..., p]`, derived values `[...]`."""

    lambdas: jax.Array
    loss: jax.Array
    accuracy: jax.Array

    @property
    def excess(self) -> jax.Array:
        """psi: the loss above the straight line between the endpoints' losses."""
        line = (1 - self.lambdas) * self.loss[..., :1] + self.lambdas * self.loss[..., -1:]
        return self.loss - line

    @property
    def barrier(self) -> jax.Array:
        """max(0, max psi)."""
        return jnp.maximum(0.0, self.excess.max(-1))

    @property
    def auc(self) -> jax.Array:
        """max(0, integral of psi), by the trapezoidal rule."""
        return jnp.maximum(0.0, jnp.trapezoid(self.excess, self.lambdas, axis=-1))

    @property
    def midpoint_accuracy(self) -> jax.Array:
        """Accuracy half way."""
        return self.accuracy[..., self.accuracy.shape[-1] // 2]


def cross_entropies(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy of each example in nats, `[m]`."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def curve(
    apply: Callable,
    a: PyTree,
    b: PyTree,
    batch: tuple[jax.Array, jax.Array],
    *,
    points: int = 25,
    losses: Callable = cross_entropies,
    chunk: int = 2048,
) -> Curve:
    """Walk from a to b (already aligned) on the whole of `batch`.

    Args:
      apply: `(params, inputs) -> outputs`.
      a, b: parameters.
      batch: inputs `[m, ...]` and integer labels `[m]`, the full test set.
      points: on the path, both ends included; odd, so that the midpoint is one of them.
      losses: `(outputs, labels) -> [m]`.
      chunk: examples that are evaluated at once.
    """
    if points < 3 or points % 2 == 0:
        raise ValueError(f"curve: points must be odd and at least 3, so that the midpoint is one, got {points}")
    inputs, labels = batch
    count, chunk = labels.shape[0], min(chunk, labels.shape[0])
    padding = -count % chunk
    index = jnp.arange(count + padding).reshape(-1, chunk)
    lambdas = jnp.linspace(0.0, 1.0, points)

    def at(weight):
        params = jax.tree.map(lambda x, y: (1 - weight) * x + weight * y, a, b)

        def part(index):
            inside = index < count
            index = jnp.minimum(index, count - 1)
            outputs = apply(params, inputs[index])
            right = (jnp.argmax(outputs, -1) == labels[index]).astype(jnp.float32)
            return jnp.stack([jnp.where(inside, losses(outputs, labels[index]), 0.0).sum(), (right * inside).sum()])

        return jax.lax.map(part, index).sum(0) / count

    values = jax.lax.map(at, lambdas)
    return Curve(lambdas, values[:, 0], values[:, 1])
