"""Soft assignment: entropy-regularised transport between the units of two networks (Sinkhorn)."""

import jax
import jax.numpy as jnp


def sinkhorn(scores: jax.Array, *, temperature: float = 1.0, iterations: int = 20, symmetric: bool = True) -> jax.Array:
    """A doubly stochastic matrix close to exp(scores / temperature), by ott-jax in the log domain.

    Args:
      scores: `[..., n, n]`, larger for better matches.
      temperature: of the scores; towards 0 the result tends to the Hungarian assignment.
      iterations: of row and column normalisation; they are unrolled, so the result is differentiable.
      symmetric: average with the transposed problem. Finitely many iterations end on the rows or on the columns, which
        breaks `sinkhorn(Q^T) = sinkhorn(Q)^T`; the average keeps this law exactly.

    Returns:
      `[..., n, n]` with rows and columns that sum to one (Cuturi 2013; Deep-Align's projection in training).
    """
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"sinkhorn: scores must be square matrices [..., n, n], found shape {scores.shape}")
    flat = scores.reshape(-1, *scores.shape[-2:])

    def solve(matrix):
        return _transport(matrix, temperature, iterations)

    plan = jax.vmap(solve)(flat)
    if symmetric:
        plan = 0.5 * (plan + jnp.swapaxes(jax.vmap(solve)(jnp.swapaxes(flat, -1, -2)), -1, -2))
    return plan.reshape(scores.shape)


def _transport(scores, temperature, iterations):
    from ott.geometry import geometry  # imported here: ott takes seconds to import, and inference does without it
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as ott_sinkhorn

    n = scores.shape[-1]
    with jax.numpy_rank_promotion("allow"):
        geom = geometry.Geometry(cost_matrix=-scores, epsilon=temperature)
        problem = linear_problem.LinearProblem(geom, a=jnp.ones(n), b=jnp.ones(n))
        solver = ott_sinkhorn.Sinkhorn(
            threshold=-1.0,
            inner_iterations=iterations,
            min_iterations=iterations,
            max_iterations=iterations,
            implicit_diff=None,
        )
        return solver(problem).matrix
