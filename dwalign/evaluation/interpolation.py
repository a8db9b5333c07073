"""The straight line between two networks: loss and accuracy along it, barrier and area."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.bounds import Count, Points, bounded
from dwalign.evaluation.assessment import assess, check_judged
from dwalign.merging import reset_statistics
from dwalign.program import CLASSIFICATION, Data, Network, Task, check_inputs, compiled, loops
from dwalign.symmetry import interpolate

PyTree = Any


class Curve(NamedTuple):
    """Loss and accuracy at `(1 - lambda) a + lambda b`.

    Leaves are `[p]`, or `[..., p]` for many pairs, where `lambdas` may stay `[p]`; derived values are `[...]`. Barrier
    and AUC are those of Navon et al., "Equivariant Deep Weight Space Alignment" (2024).
    """

    lambdas: jax.Array
    loss: jax.Array
    accuracy: jax.Array

    @property
    def excess(self) -> jax.Array:
        """psi: the loss above the straight line between the endpoints' losses."""
        lambdas = jnp.broadcast_to(self.lambdas, jnp.shape(self.loss))
        return self.loss - (1 - lambdas) * self.loss[..., :1] - lambdas * self.loss[..., -1:]

    @property
    def barrier(self) -> jax.Array:
        """max(0, max psi)."""
        return jnp.maximum(0.0, self.excess.max(-1))

    @property
    def auc(self) -> jax.Array:
        """max(0, integral of psi), by the trapezoidal rule."""
        lambdas = jnp.broadcast_to(self.lambdas, jnp.shape(self.loss))
        return jnp.maximum(0.0, jnp.trapezoid(self.excess, lambdas, axis=-1))

    @property
    def midpoint_accuracy(self) -> jax.Array:
        """Accuracy half way."""
        return self.accuracy[..., self.accuracy.shape[-1] // 2]


@bounded
def curve(
    network: Network,
    a: PyTree,
    b: PyTree,
    data: Data,
    *,
    task: Task = CLASSIFICATION,
    points: Points = 25,
    renew: PyTree = None,
    chunk: Count = 2048,
) -> Curve:
    """Walk from a to b (already aligned) on the whole of `data`.

    Args:
      network, a, b: what is judged.
      data: inputs and labels, trees of `[m, ...]`, the full test set.
      task: what the networks are for.
      points: on the path, both ends included; odd, so that the midpoint is one of them.
      renew: training inputs `[m, ...]` on which the batch statistics of every network on the path are computed anew
        before it is judged; by default they are interpolated.
      chunk: examples that are evaluated at once; changes memory and time, not the result.

    Raises:
      ValueError: an even number of points, a chunk below 1, or inputs and labels that differ in number.
    """
    data = check_judged("curve", network, a, data, task)
    renew = None if renew is None else check_inputs("curve: renew", network.apply, a, renew)
    return _walk(network, task, points, chunk, a, b, data, renew)


# a second pair compiles nothing
@compiled(4, inline=True)
def _walk(
    network: Network, task: Task, points: int, chunk: int, a: PyTree, b: PyTree, data: Data, renew: PyTree
) -> Curve:
    lambdas = jnp.linspace(0.0, 1.0, points)

    def at(weight):
        params = interpolate(network.spec, a, b, weight)
        params = params if renew is None else reset_statistics(network, params, renew)
        return jnp.stack(assess(network, params, data, task=task, chunk=chunk))

    values = loops.map(at, lambdas)
    return Curve(lambdas, values[:, 0], values[:, 1])
