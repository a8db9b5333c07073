"""Activation matching: units that respond alike are the same unit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.assignment import assign
from dwalign.symmetry import Alignment, PermutationSpec

PyTree = Any


def activation_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    capture: Callable,
    batch: tuple[jax.Array, jax.Array],
    correlation: bool = False,
    chunk: int = 1000,
    key: jax.Array | None = None,
) -> Alignment:
    """Match units by their activations on data.

    Args:
      spec, a, b: what is matched.
      capture: `(params, inputs) -> (outputs, Units)` of the network.
      batch: inputs `[m, ...]` and labels (not used); the whole training set in the paper.
      correlation: Pearson correlations (Li et al. 2016) instead of inner products (Git Re-Basin, Ainsworth et al.
        2023). Units that are constant on the data have correlation 0.
      chunk: inputs that are pushed through the networks at once.
      key: not used; all methods share one signature.

    Returns:
      `scores[group][i, j]`: the inner product or correlation of unit i of a and unit j of b.
    """
    inputs = batch[0]
    count = inputs.shape[0]
    if not count:
        raise ValueError("activation_matching: batch must hold at least one input, found none")
    padding = -count % chunk
    padded = jnp.concatenate([inputs, jnp.zeros((padding, *inputs.shape[1:]), inputs.dtype)])
    weights = (jnp.arange(count + padding) < count).astype(jnp.float32)
    chunks = (padded.reshape(-1, chunk, *inputs.shape[1:]), weights.reshape(-1, chunk))

    def moments(sums, part):
        x, weight = part
        post_a, post_b = capture(a, x)[1].post, capture(b, x)[1].post
        new = {}
        for g in spec.sizes:
            u, v = post_a[g] * weight[:, None], post_b[g] * weight[:, None]
            new[g] = (u.T @ v, u.sum(0), v.sum(0), (u**2).sum(0), (v**2).sum(0))
        return jax.tree.map(jnp.add, sums, new), None

    zeros = {g: (jnp.zeros((n, n)), *(jnp.zeros(n) for _ in range(4))) for g, n in spec.sizes.items()}
    sums = jax.lax.scan(moments, zeros, chunks)[0]
    scores = {g: _correlation(*sums[g], count) if correlation else sums[g][0] / count for g in spec.sizes}
    return Alignment(assign(scores), scores)


def _correlation(product, sum_a, sum_b, square_a, square_b, count):
    covariance = product / count - jnp.outer(sum_a, sum_b) / count**2
    scale_a = jax.lax.rsqrt(square_a / count - (sum_a / count) ** 2 + 1e-8)
    scale_b = jax.lax.rsqrt(square_b / count - (sum_b / count) ** 2 + 1e-8)
    return covariance * jnp.outer(scale_a, scale_b)
