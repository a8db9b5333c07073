"""The three losses of Deep-Align, each for one pair of networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.matching.latents import Latents, Signed, soften
from dwalign.program import on_average
from dwalign.symmetry import PermutationSpec, inner_product, permute_blocks, weight_blocks

PyTree = Any


def supervised(spec: PermutationSpec, latents: Latents, elements: dict[str, Any]) -> jax.Array:
    """How far latents are from known elements, averaged over units and groups.

    - permutation: row- and column-wise cross-entropy of the scores. The paper takes the rows; with the columns the loss
      keeps the swap law.
    - sign: besides, the logistic loss of the signs of the true pairs.
    - orthogonal: the squared distance of the soft map from the true one.
    """
    soft = soften(spec, {g: x for g, x in latents.items() if spec.kinds[g] == "orthogonal"})

    def one(group, x):
        element = elements[group]
        if group in soft:
            return jnp.mean(jnp.sum((soft[group] - element) ** 2, -1))
        if not isinstance(x, Signed):
            return _cross_entropy(x, element)
        found = jnp.take_along_axis(x.signs, element.perm[..., None, None], -2)[..., 0, :]
        return _cross_entropy(x.scores, element.perm) + jax.nn.softplus(-2 * found * element.sign).mean()

    return sum(one(g, x) for g, x in latents.items()) / len(latents)


def _cross_entropy(scores, perm):
    rows = optax.softmax_cross_entropy_with_integer_labels(scores, perm).mean()
    columns = optax.softmax_cross_entropy_with_integer_labels(jnp.swapaxes(scores, -1, -2), jnp.argsort(perm)).mean()
    return 0.5 * (rows + columns)


def alignment(spec: PermutationSpec, a: PyTree, b: PyTree, plans: dict[str, Any]) -> jax.Array:
    """|a - P.b|^2 / |a|^2 of the weights, the squared distance after soft alignment."""
    first, moved = weight_blocks(spec, a), permute_blocks(spec, weight_blocks(spec, b), plans)
    apart = [x._replace(array=x.array - y.array) for x, y in zip(first, moved, strict=True)]
    return inner_product(apart, apart) / (inner_product(first, first) + 1e-12)


def mode_connectivity(
    spec: PermutationSpec, a: PyTree, b: PyTree, plans: dict[str, Any], weight: jax.Array, task_loss: Callable
) -> jax.Array:
    """The task loss at `(1 - weight) a + weight P.b`; `task_loss(params)` is that of one network."""
    return on_average(task_loss, spec, a, b, plans, weight)
