"""Soft assignment: entropy-regularised transport between the units of two networks (Sinkhorn)."""

from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Positive, bounded, one_of
from dwalign.extras import load

# of numbers: what a core keeps near while it works on it
FILLS_A_CACHE = 2**17
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
      iterations: of row and column normalisation; gradients are those of these iterations, however far they come.
      solver: "ott" runs ott-jax in the log domain; "scaling" runs the same iterations as matrix-vector products
        after two steps in the log domain, which keep them safe at any temperature. Its gradient keeps vectors of each
        iteration and no matrix, and costs about as much as the result; inner loops use it.
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
    each = jax.lax.map if _fills_a_cache(flat.shape[-1]) else lambda f, x: jax.vmap(f)(x)
    plan = each(lambda matrix: solve(matrix, temperature, iterations), flat)
    if symmetric:
        plan, mirrored = jnp.split(plan, 2)
        plan = 0.5 * (plan + jnp.swapaxes(mirrored, -1, -2))
    return plan.reshape(scores.shape)


def _fills_a_cache(n: int) -> bool:
    """Whether matrices are better solved one after the other: each is read dozens of times."""
    return jax.default_backend() == "cpu" and n * n >= FILLS_A_CACHE


def soft_assign(scores: dict[str, jax.Array], **options) -> dict[str, jax.Array]:
    """`sinkhorn` for every group, with the same options; groups of equal size are solved together where that pays."""
    for q in scores.values():
        _check_square("soft_assign", q)
    together: dict[Any, list[str]] = {}
    for g, q in scores.items():
        together.setdefault(g if _fills_a_cache(q.shape[-1]) else q.shape[-1], []).append(g)
    plans = {}
    for same in together.values():
        n = scores[same[0]].shape[-1]
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
    return _scaled(scores / temperature, iterations)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _scaled(logits, iterations):
    return _scaled_forward(logits, iterations)[0]


def _scaled_forward(logits, iterations):
    # after these two steps rows sum to at least 1/n and columns to one: nothing can overflow or vanish below
    logits = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
    sums = jax.nn.logsumexp(logits, -2, keepdims=True)
    kernel = jnp.exp(logits - sums)

    def iteration(columns, _):
        rows = 1.0 / (kernel @ columns)
        # not kernel.T @ rows: CPUs read the kernel as it lies
        columns = 1.0 / (rows @ kernel)
        return columns, (rows, columns)

    ones = jnp.ones_like(sums)
    last, (rows, columns) = jax.lax.scan(iteration, ones[0], length=iterations)
    rows = jnp.concatenate([ones, rows, 1.0 / (kernel @ last)[None]])
    columns = jnp.concatenate([jnp.exp(sums), ones, columns])
    plan = rows[-1][:, None] * kernel * last[None]
    return plan, (plan, rows / rows[-1:], columns / last[None])


def _scaled_backward(iterations, residuals, cotangent):
    """What unrolled iterations give: each adds a product of two vectors, and all of these are added as one product.

    So no iteration keeps or writes a matrix. Rows and columns are the factors of the plan that make its rows, or its
    columns, sum to one in each iteration.
    """
    plan, rows, columns = residuals
    through = cotangent * plan
    of_rows = through.sum(1)
    of_columns = through.sum(0) - of_rows @ plan

    def iteration(of_columns, factors):
        rows, columns, after = factors
        right = after * of_columns
        # in this order: of scores that cannot be balanced the factors grow with every iteration
        left = -rows * (rows * (plan @ right))
        return -columns * (left @ plan), (left, right)

    _, (lefts, rights) = jax.lax.scan(iteration, of_columns, (rows[:-1], columns[:-1], columns[1:]), reverse=True)
    summed = jnp.concatenate([lefts, of_rows[None], rows[:-1]]).T @ jnp.concatenate([columns, rights])
    return (through - plan * summed,)


_scaled.defvjp(_scaled_forward, _scaled_backward)


SOLVERS = {"ott": _by_ott, "scaling": _by_scaling}
