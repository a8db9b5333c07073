"""Soft assignment: entropy-regularised transport between the units of two networks (Sinkhorn)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from dwalign.bounds import Count, Positive, bounded, one_of
from dwalign.extras import load
from dwalign.symmetry import as_arrays, with_lists

# of numbers: what a core keeps near while it works on it
FILLS_A_CACHE = 2**17
Solver = Annotated[str, one_of(("ott", "scaling"))]


def _check_square(caller: str, scores: jax.Array) -> None:
    if scores.ndim < 2 or scores.shape[-1] != scores.shape[-2]:
        raise ValueError(f"{caller}: scores must be square matrices [..., n, n], found shape {scores.shape}")


@bounded
@with_lists
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
      solver: "ott" runs ott-jax in the log domain; "scaling" runs these iterations and one more as matrix-vector
        products, of one matrix for both problems. Scores too far apart for that, as temperatures near 0 make them, are
        brought closer first, and iterations begin elsewhere. Its gradient keeps vectors of each iteration and one
        matrix, and costs about as much as the result; inner loops use it.
      symmetric: average with the transposed problem. Finitely many iterations end on the rows or on the columns, which
        breaks `sinkhorn(Q^T) = sinkhorn(Q)^T`; the average keeps this law exactly.

    Returns:
      `[..., n, n]` with rows and columns that sum to one (Cuturi 2013; Deep-Align's projection in training).
    """
    _check_square("sinkhorn", scores)
    solve = SOLVERS[solver]
    flat = scores.reshape(-1, *scores.shape[-2:])
    return jax.vmap(lambda matrix: solve(matrix, temperature, iterations, symmetric))(flat).reshape(scores.shape)


def _fills_a_cache(n: int) -> bool:
    """Whether matrices are better solved one after the other: each is read dozens of times."""
    return jax.default_backend() == "cpu" and n * n >= FILLS_A_CACHE


def _in_turn(n: int, function: Callable) -> Callable:
    """A function of one matrix, which vmap calls for one after the other where each fills a cache.

    Over several devices XLA divides what is mapped; a loop would gather it on each.
    """
    return sequential_vmap(function) if _fills_a_cache(n) and jax.device_count() == 1 else function


def soft_assign(scores: dict[str, jax.Array], **options) -> dict[str, jax.Array]:
    """`sinkhorn` for every group, with the same options; groups of equal size are solved together where that pays."""
    scores = {g: as_arrays(q) for g, q in scores.items()}
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


def _by_ott(scores, temperature, iterations, symmetric):
    plan = _one_by_ott(scores, temperature, iterations)
    return 0.5 * (plan + _one_by_ott(scores.T, temperature, iterations).T) if symmetric else plan


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _one_by_ott(scores, temperature, iterations):
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
    return jax.vjp(lambda *args: _one_by_ott.__wrapped__(*args, iterations), scores, temperature)


def _by_ott_backward(iterations, pullback, cotangent):
    with jax.numpy_rank_promotion("allow"):  # ott's own backward pass is traced here, outside of the block above
        return pullback(cotangent)


_one_by_ott.defvjp(_by_ott_forward, _by_ott_backward)


def _by_scaling(scores, temperature, iterations, symmetric):
    return _scaled(scores / temperature, iterations, symmetric)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _scaled(logits, iterations, symmetric):
    return _scaled_forward(logits, iterations, symmetric)[0]


def _scaled_forward(logits, iterations, symmetric):
    return _in_turn(len(logits), partial(_iterated, iterations, symmetric))(logits)


def _scaled_backward(iterations, symmetric, residuals, cotangent):
    return (_in_turn(len(cotangent), _pulled_back)(residuals, cotangent),)


_scaled.defvjp(_scaled_forward, _scaled_backward)


def _iterated(iterations, symmetric, logits):
    """Two chains of factors of one kernel: the first begins and ends with rows, the second, if any, with columns."""
    logits, first_rows, first_columns = _levelled(logits)
    # none is zero: of a kernel that cannot be balanced the factors would grow with every iteration
    kernel = jnp.exp(jnp.maximum(logits, -2 * _far(logits)))
    begins = [first_columns, 1.0 / (first_rows @ kernel)][: 1 + symmetric]

    def iteration(columns, _):
        # vector by vector and never kernel.T: CPUs read the kernel as it lies
        rows = [1.0 / (kernel @ v) for v in columns]
        columns = [1.0 / (u @ kernel) for u in rows]
        return columns, (rows, columns)

    columns, (rows, after) = jax.lax.scan(iteration, begins, length=iterations + 1)
    ends = [1.0 / (kernel @ columns[0]), *(u[-1] for u in rows[1:])]
    before = [jnp.concatenate([v[None], later[:-1]]) for v, later in zip(begins, after, strict=True)]
    plan = kernel * (jnp.stack(ends, 1) @ jnp.stack(columns) / len(ends))
    return plan, (plan, kernel, first_rows, ends, columns, rows, before, after)


def _levelled(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of which no row and no column lies far below zero as a whole, and the rows and columns to begin with.

    A round takes the mean of what normalises rows, then columns, and of what normalises columns, then rows (by maxima,
    so that none exceeds zero), and at least halves what is missing. Most logits need none.
    """
    far = _far(logits)
    highest = lambda logits, axis: jnp.max(logits, axis, keepdims=True)

    def lacks(state):
        logits, _, _ = state
        return jnp.minimum(jnp.min(highest(logits, -1)), jnp.min(highest(logits, -2))) < -far

    def level(state):
        logits, rows, columns = state
        row, column = highest(logits, -1), highest(logits, -2)
        row, column = 0.5 * (row + highest(logits - column, -1)), 0.5 * (column + highest(logits - row, -2))
        return logits - row - column, rows + row[:, 0], columns + column[0]

    logits = logits - jax.lax.stop_gradient(jnp.max(logits))
    none = jnp.zeros_like(logits[0])
    # whatever they are plans stay the same, and who learns through descent takes gradients of gradients
    begun = jax.lax.stop_gradient(logits), none, none
    _, rows, columns = jax.lax.while_loop(lacks, level, begun)
    logits = logits - rows[:, None] - columns[None]
    # the ones of the logits as they were, where these can be written
    return logits, *(jnp.exp(jnp.clip(x, -far, far)) for x in (rows, columns))


def _far(logits: jax.Array) -> float:
    """The logarithm of a factor of which three, multiplied, are still a number."""
    return math.log(jnp.finfo(logits.dtype).max) / 3


def _pulled_back(residuals, cotangent):
    """What unrolled iterations give: each adds a product of two vectors, and all of these are added as one product.

    So no iteration keeps or writes a matrix.
    """
    plan, kernel, first_rows, ends, columns, rows, before, after = residuals
    through = cotangent * kernel / len(ends)
    of_rows = [u * (through @ v) for u, v in zip(ends, columns, strict=True)]
    of_columns = [v * (u @ through) for u, v in zip(ends, columns, strict=True)]
    # the rows that the first chain ends with; those of the second are of its last iteration
    last = -ends[0] * of_rows[0]
    of_columns[0] += columns[0] * (last @ kernel)
    of_rows[0] = jnp.zeros_like(last)

    def iteration(state, factors):
        of_rows, of_columns = state
        rows, before, after = factors
        rights = [-v * c for v, c in zip(after, of_columns, strict=True)]
        # in this order: factors can be large
        lefts = [-u * (c + u * (kernel @ r)) for u, c, r in zip(rows, of_rows, rights, strict=True)]
        of_columns = [v * (left @ kernel) for v, left in zip(before, lefts, strict=True)]
        return (jax.tree.map(jnp.zeros_like, of_rows), of_columns), (lefts, rights)

    factors = (rows, before, after)
    (_, of_columns), (lefts, rights) = jax.lax.scan(iteration, (of_rows, of_columns), factors, reverse=True)
    # the columns that the second begins with
    first = [-v[0] * c for v, c in zip(before[1:], of_columns[1:], strict=True)]
    all_lefts = jnp.stack([last, *[first_rows] * len(first)]), *rows, *lefts
    all_rights = jnp.stack([columns[0], *first]), *rights, *before
    summed = jnp.concatenate(all_lefts).T @ jnp.concatenate(all_rights)
    return cotangent * plan + kernel * summed


SOLVERS = {"ott": _by_ott, "scaling": _by_scaling}
