"""The weight-matching scores of all units under the current alignment of their neighbours."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.assignment import hungarian
from dwalign.symmetry import (
    Block,
    PermutationSpec,
    inner_product,
    inverse,
    permute_batch,
    permute_block,
    to_matrices,
    weight_blocks,
)

PyTree = Any
Scores = dict[str, jax.Array]
EPS = 1e-12


def match_scores(
    spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array], *, own: Scores | None = None
) -> Scores:
    """For each group the inner products of unit i of a and unit j of b over all weights they touch.

    Args:
      spec, a, b: what is matched.
      perms: the current alignment of every group, hard `[*batch, n]` or soft `[*batch, n, n]`; the scores of a group
        use that of the others.
      own: `own_scores(spec, a, b)`, which callers in a loop compute once.

    Returns:
      group to `[*batch, n, n]`, the linear assignment problem of Git Re-Basin's weight matching (Ainsworth et al.
      2023). Differentiable; swapping a and b and transposing `perms` transposes the result.
    """
    blocks = weight_blocks(spec, a), weight_blocks(spec, b)
    own = {group: group_scores(spec, *blocks, {}, group, own=True) for group in spec.sizes} if own is None else own
    return {group: own[group] + group_scores(spec, *blocks, perms, group, own=False) for group in spec.sizes}


def own_scores(spec: PermutationSpec, a: PyTree, b: PyTree) -> Scores:
    """The part that depends on no alignment: weights between the group and fixed axes."""
    blocks = weight_blocks(spec, a), weight_blocks(spec, b)
    return {group: group_scores(spec, *blocks, {}, group, own=True) for group in spec.sizes}


def group_scores(
    spec: PermutationSpec, blocks_a: Sequence[Block], blocks_b: Sequence[Block], perms: dict, group: str, *, own: bool
) -> jax.Array:
    """The scores of one group over the blocks that carry no other group (`own`), or over all others.

    The latter depend on the alignment of the others. Where the group sits on two axes of an array, the score is
    quadratic in its own permutation; this is its linearisation at `perms`, the sum over both occurrences with the other
    one aligned.
    """
    n = spec.sizes[group]
    total = jnp.zeros((*spec.batch_shape(group), n, n), jnp.float32)
    nested = any(h in spec.sizes for h in spec.batch.get(group, ()))
    for block_a, block_b in zip(blocks_a, blocks_b, strict=True):
        for axis, factor in enumerate(block_a.factors):
            others = {f for k, f in enumerate(block_a.factors) if k != axis and f in spec.sizes}
            if factor == group and own == (not others):
                if nested:
                    total = total + _derivative(spec, block_a, block_b, perms, group)
                    break
                aligned = permute_block(spec, block_b, perms, skip=axis)
                total = total + _products(spec, block_a, aligned, axis)
    return total


def feature_scores(spec: PermutationSpec, features_a: Scores, features_b: Scores) -> Scores:
    """Cosines of the features `[*batch, n, d]` of every unit of a and every unit of b, `[*batch, n, n]`.

    A group that is batched over others compares what these match: units of one head with those of its partner.
    """
    scores: Scores = {}
    for level in spec.levels:
        partners = inverse(spec, hungarian(scores))
        for g in level:
            x, y = _unit(permute_batch(spec, g, features_a[g], partners)), _unit(features_b[g])
            scores[g] = x @ jnp.swapaxes(y, -1, -2)
    return {g: scores[g] for g in spec.sizes}


def _unit(x):
    return x * jax.lax.rsqrt(jnp.sum(x**2, -1, keepdims=True) + EPS)


def _products(spec, block_a: Block, block_b: Block, axis: int) -> jax.Array:
    rank = block_a.array.ndim
    other = [rank if k == axis else k for k in range(rank)]
    batch = [block_a.factors.index(h) for h in spec.batch.get(block_a.factors[axis], ())]
    return jnp.einsum(block_a.array, list(range(rank)), block_b.array, other, [*batch, axis, rank], precision="highest")


def _derivative(spec, block_a: Block, block_b: Block, perms, group) -> jax.Array:
    # permutations inside a permuted group are indexed by the units of b, products with the aligned b by those of a
    inner = lambda p: inner_product([block_a], [permute_block(spec, block_b, {**perms, group: p})])
    hard = jnp.issubdtype(perms[group].dtype, jnp.integer)
    return jax.grad(inner)(to_matrices({group: perms[group]})[group] if hard else perms[group])
