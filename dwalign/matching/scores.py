"""The weight-matching scores of all units under the current alignment of their neighbours."""

from typing import Any

import jax
import jax.numpy as jnp

from dwalign.symmetry import PermutationSpec, SpecError, permute

PyTree = Any


def match_scores(spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """For each group the inner products of unit i of a and unit j of b over all weights they touch.

    Args:
      spec, a, b: what is matched.
      perms: the current alignment of every group, hard `[*batch, n]` or soft `[*batch, n, n]`; the scores of a group use
        that of the others (and of its own other occurrence, where it sits twice on one array).

    Returns:
      group to `[*batch, n, n]`, the linear assignment problem of Git Re-Basin's weight matching (Ainsworth et al. 2023).
      Differentiable; swapping a and b and transposing `perms` transposes the result.
    """
    return {group: group_scores(spec, a, b, perms, group) for group in spec.sizes}


def group_scores(spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array], group: str) -> jax.Array:
    """`match_scores` for one group."""
    others = {g: perm for g, perm in perms.items() if g != group}
    total = 0.0
    for block_a, block_b in zip(spec.blocks(a), spec.blocks(permute(spec, b, others)), strict=True):
        axes = [k for k, factor in enumerate(block_a.factors) if factor == group]
        if len(axes) > 1:
            raise SpecError(f"weight matching: {block_a.path} carries {group!r} on {len(axes)} axes")
        for axis in axes:
            letters = list(range(block_a.array.ndim))
            other = [len(letters) if k == axis else k for k in letters]
            batch = [block_a.factors.index(h) for h in spec.batch.get(group, ())]
            total = total + jnp.einsum(block_a.array, letters, block_b.array, other, [*batch, axis, len(letters)])
    return total
