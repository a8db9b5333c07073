"""Hard assignment: the permutation of largest total score."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

PyTree = Any


def hungarian(scores: PyTree) -> PyTree:
    """The permutation p that maximises sum_i scores[i, p[i]], for batches of square matrices.

    Args:
      scores: `[..., n, n]`, or any tree of such arrays; must be finite. Gradients do not flow through the result.

    Returns:
      `[..., n]` int32 for each array. Works eagerly, under jit and under vmap: a whole batch of whole trees is one call
      to the host, where the call may cost more than small assignments.
    """
    for matrix in jax.tree.leaves(scores):
        if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"hungarian: scores must be square matrices [..., n, n], found shape {matrix.shape}")
    out = jax.tree.map(lambda matrix: jax.ShapeDtypeStruct(matrix.shape[:-1], jnp.int32), scores)
    solve = lambda scores: jax.tree.map(_solve, scores)
    return jax.pure_callback(solve, out, jax.lax.stop_gradient(scores), vmap_method="broadcast_all")


def _solve(scores):
    scores = np.asarray(scores)
    flat = scores.reshape(-1, *scores.shape[-2:]).astype(np.float64)
    if bad := np.sum(~np.isfinite(flat)):
        raise ValueError(f"hungarian: scores must be finite, found {bad} NaN or infinite values")
    out = np.empty(flat.shape[:2], np.int32)
    for k, matrix in enumerate(flat):
        out[k] = linear_sum_assignment(matrix, maximize=True)[1]
    return out.reshape(scores.shape[:-1])
