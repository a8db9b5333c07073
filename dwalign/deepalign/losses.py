"""The three losses of Deep-Align, each for one pair of networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.symmetry import PermutationSpec, inner_product, interpolate, permute, permute_blocks, weight_blocks

PyTree = Any
Scores = dict[str, jax.Array]


def supervised(scores: Scores, perms: dict[str, jax.Array]) -> jax.Array:
    """Row- and column-wise cross-entropy of the scores to known permutations, averaged over units and groups.

    The paper takes the rows; with the columns the loss keeps the swap law.
    """

    def one(q, perm):
        rows = optax.softmax_cross_entropy_with_integer_labels(q, perm).mean()
        columns = optax.softmax_cross_entropy_with_integer_labels(jnp.swapaxes(q, -1, -2), jnp.argsort(perm)).mean()
        return 0.5 * (rows + columns)

    return sum(one(q, perms[g]) for g, q in scores.items()) / len(scores)


def alignment(spec: PermutationSpec, a: PyTree, b: PyTree, plans: Scores) -> jax.Array:
    """|a - P.b|^2 / |a|^2 of the weights, the squared distance after soft alignment."""
    first, moved = weight_blocks(spec, a), permute_blocks(spec, weight_blocks(spec, b), plans)
    apart = [x._replace(array=x.array - y.array) for x, y in zip(first, moved, strict=True)]
    return inner_product(apart, apart) / (inner_product(first, first) + 1e-12)


def mode_connectivity(
    spec: PermutationSpec, a: PyTree, b: PyTree, plans: Scores, weight: jax.Array, task_loss: Callable
) -> jax.Array:
    """The task loss at `(1 - weight) a + weight P.b`; `task_loss(params)` is that of one network."""
    moved = permute(spec, b, plans)
    return task_loss(interpolate(spec, a, moved, weight))
