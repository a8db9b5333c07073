"""Soft assignment: entropy-regularised transport between the units of two networks (Sinkhorn)."""

from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Positive, bounded, one_of
from dwalign.extras import load

Solver = Annotated[str, one_of(("ott", "scaling"))]


def _check_square(caller: str, scores: jax.Array) -> None:
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"{caller}: scores must be square matrices [..., n, n], found shape {scores.shape}")


@bounded
@partial(jax.jit, static_argnames=("iterations", "symmetric", "solver"))
def sinkhorn(
    scores: jax.Array,
    *,
    temperature: Positive = 1.0,
    iterations: Count = 20,
    symmetric: bool = True,
    solver: Solver = "ott",
) -> jax.Array:
    """A doubly stochastic matrix close to exp(scores / temperature).

    Args:
      scores: `[..., n, n]`, larger for better matches.
      temperature: of the scores; towards 0 the result tends to the Hungarian assignment.
      iterations: of row and column normalisation; they are unrolled, so the result is differentiable.
      solver: "ott" runs ott-jax in the log domain; "scaling" runs the same iterations as matrix-vector products
        after two steps in the log domain, which keep them safe at any temperature. At n = 128 its gradient costs a
        small fraction of ott's; inner loops use it.
      symmetric: average with the transposed problem. Finitely many iterations end on the rows or on the columns, which
        breaks `sinkhorn(Q^T) = sinkhorn(Q)^T`; the average keeps this law exactly.

    Returns:
      `[..., n, n]` with rows and columns that sum to one (Cuturi 2013; Deep-Align's projection in training).
    """
    _check_square("sinkhorn", scores)
    solve = SOLVERS[solver]
    flat = scores.reshape(-1, *scores.shape[-2:])

    if symmetric:
        flat = jnp.concatenate([flat, jnp.swapaxes(flat, -1, -2)])
    plan = jax.vmap(lambda matrix: solve(matrix, temperature, iterations))(flat)
    if symmetric:
        plan, mirrored = jnp.split(plan, 2)
        plan = 0.5 * (plan + jnp.swapaxes(mirrored, -1, -2))
    return plan.reshape(scores.shape)


def soft_assign(scores: dict[str, jax.Array], **options) -> dict[str, jax.Array]:
    """`sinkhorn` for every group, with the same options; groups of equal size are solved together."""
    for q in scores.values():
        _check_square("soft_assign", q)
    sizes = sorted({q.shape[-1] for q in scores.values()})
    plans = {}
    for n in sizes:
        same = [g for g, q in scores.items() if q.shape[-1] == n]
        flat = [scores[g].reshape(-1, n, n) for g in same]
        solved = jnp.split(sinkhorn(jnp.concatenate(flat), **options), np.cumsum([len(q) for q in flat])[:-1].tolist())
        plans |= {g: plan.reshape(scores[g].shape) for g, plan in zip(same, solved, strict=True)}
    return {g: plans[g] for g in scores}


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_ott(scores, temperature, iterations):
    # loaded here: ott takes seconds to import, and inference does without it
    geometry = load("ott.geometry.geometry")
    linear_problem = load("ott.problems.linear.linear_problem")
    ott_sinkhorn = load("ott.solvers.linear.sinkhorn")

    n = scores.shape[-1]
    with jax.numpy_rank_promotion("allow"):
        geom = geometry.Geometry(cost_matrix=-scores, epsilon=temperature)
        problem = linear_problem.LinearProblem(geom, a=jnp.ones(n, scores.dtype), b=jnp.ones(n, scores.dtype))
        solver = ott_sinkhorn.Sinkhorn(
            threshold=-1.0,
            inner_iterations=iterations,
            min_iterations=iterations,
            max_iterations=iterations,
            implicit_diff=None,
        )
        return solver(problem).matrix


def _by_ott_forward(scores, temperature, iterations):
    return jax.vjp(lambda *args: _by_ott.__wrapped__(*args, iterations), scores, temperature)


def _by_ott_backward(iterations, pullback, cotangent):
    with jax.numpy_rank_promotion("allow"):  # ott's own backward pass is traced here, outside of the block above
        return pullback(cotangent)


_by_ott.defvjp(_by_ott_forward, _by_ott_backward)


def _by_scaling(scores, temperature, iterations):
    logits = scores / temperature
    # after these two steps rows sum to at least 1/n and columns to one: nothing can overflow or vanish below
    logits = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
    kernel = jnp.exp(logits - jax.nn.logsumexp(logits, -2, keepdims=True))

    def iteration(columns, _):
        return 1.0 / (kernel.T @ (1.0 / (kernel @ columns))), None

    columns, _ = jax.lax.scan(iteration, jnp.ones(scores.shape[-1], kernel.dtype), length=iterations)
    return (1.0 / (kernel @ columns))[:, None] * kernel * columns[None, :]


SOLVERS = {"ott": _by_ott, "scaling": _by_scaling}
