"""Hard assignment: the permutation of largest total score."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment


def hungarian(scores: jax.Array) -> jax.Array:
    """The permutation p that maximises sum_i scores[i, p[i]], for a batch of square matrices.

    Args:
      scores: `[..., n, n]`; must be finite. Gradients do not flow through the result.

    Returns:
      `[..., n]` int32. Works eagerly, under jit and under vmap: a whole batch is one call to the host.
    """
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"hungarian: scores must be square matrices [..., n, n], found shape {scores.shape}")
    out = jax.ShapeDtypeStruct(scores.shape[:-1], jnp.int32)
    return jax.pure_callback(_solve, out, jax.lax.stop_gradient(scores), vmap_method="expand_dims")


def _solve(scores):
    scores = np.asarray(scores)
    flat = scores.reshape(-1, *scores.shape[-2:]).astype(np.float64)
    if bad := np.sum(~np.isfinite(flat)):
        raise ValueError(f"hungarian: scores must be finite, found {bad} NaN or infinite values")
    out = np.empty(flat.shape[:2], np.int32)
    for k, matrix in enumerate(flat):
        out[k] = linear_sum_assignment(matrix, maximize=True)[1]
    return out.reshape(scores.shape[:-1])


def assign(scores: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`hungarian` for every group."""
    return {group: hungarian(matrix) for group, matrix in scores.items()}
