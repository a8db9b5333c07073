"""Sinkhorn: doubly stochastic, symmetric, Hungarian in the limit, differentiable."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian, sinkhorn, soft, soft_assign
from dwalign.assignment.soft import SOLVERS
from tests import drawn

by_every_solver = pytest.mark.parametrize("solver", sorted(SOLVERS))


# of one shape, so that solvers compile once for each number of iterations
Q = drawn.normal(4, 6, 6)


def solve(q=Q, **options):
    return np.asarray(sinkhorn(q, **options))


def flipped(x):
    return np.swapaxes(x, -1, -2)


@by_every_solver
@pytest.mark.parametrize(
    ("symmetric", "temperature", "iterations", "atol"),
    [(True, 1.0, 20, 1e-4), (True, 0.3, 100, 1e-3), (False, 0.3, 100, 1e-3)],
)
def test_rows_and_columns_sum_to_one(solver, symmetric, temperature, iterations, atol):
    plan = solve(temperature=temperature, iterations=iterations, symmetric=symmetric, solver=solver)
    assert plan.shape == Q.shape and np.all(plan >= 0)
    chex.assert_trees_all_close(plan.sum(-1), np.ones_like(plan[..., 0]), atol=atol)
    chex.assert_trees_all_close(plan.sum(-2), np.ones_like(plan[..., 0]), atol=atol)


@by_every_solver
def test_one_sum_is_exact_after_any_number_of_iterations(solver):
    plan = solve(iterations=1, symmetric=False, temperature=0.3, solver=solver)
    rows, columns = np.abs(plan.sum(-1) - 1).max(), np.abs(plan.sum(-2) - 1).max()
    assert min(rows, columns) < 1e-5 < max(rows, columns)


@by_every_solver
@pytest.mark.parametrize("iterations", [1, 20])
def test_swapping_the_networks_transposes(solver, iterations):
    options = {"iterations": iterations, "temperature": 0.2, "solver": solver}
    chex.assert_trees_all_close(solve(flipped(Q), **options), flipped(solve(**options)), atol=1e-6)
    if iterations == 1:
        broken, kept = solve(flipped(Q), **options, symmetric=False), solve(**options, symmetric=False)
        assert np.abs(broken - flipped(kept)).max() > 1e-2, "without the average the law must break"


@by_every_solver
def test_permuting_units_permutes_the_plan(solver):
    rows, columns = np.array([3, 0, 5, 1, 4, 2]), np.array([1, 2, 0, 5, 3, 4])
    moved = solve(Q[:, rows][:, :, columns], temperature=0.5, solver=solver)
    chex.assert_trees_all_close(moved, solve(temperature=0.5, solver=solver)[:, rows][:, :, columns], atol=1e-5)


@by_every_solver
def test_small_temperature_is_hungarian(solver):
    plan, best = solve(temperature=0.02, iterations=500, solver=solver), np.asarray(hungarian(Q))
    chex.assert_trees_all_equal(np.asarray(hungarian(plan)), best)
    optimum = np.take_along_axis(Q, best[..., None], -1).sum((-1, -2))
    entropy_bound = 0.02 * 6 * np.log(6)
    assert np.all(np.abs(np.sum(plan * Q, (-1, -2)) - optimum) < entropy_bound)


@by_every_solver
def test_matches_plain_sinkhorn_in_double_precision(solver):
    plan = np.exp(Q.astype(np.float64))
    for _ in range(300):
        plan /= plan.sum(-2, keepdims=True)
        plan /= plan.sum(-1, keepdims=True)
    chex.assert_trees_all_close(solve(iterations=100, solver=solver), plan.astype(np.float32), atol=1e-4)


@by_every_solver
def test_constants_on_rows_and_columns_do_not_matter(solver):
    shifted = Q + 5 * drawn.normal(4, 6, 1, seed=4) + 5 * drawn.normal(4, 1, 6, seed=5)
    options = {"iterations": 100, "solver": solver}
    chex.assert_trees_all_close(solve(shifted, **options), solve(**options), atol=1e-4)


WEIGHTS = drawn.normal(*Q.shape, seed=7)


@functools.cache
def slopes(solver):
    loss = lambda q, temperature: jnp.sum(WEIGHTS * sinkhorn(q, temperature=temperature, solver=solver))
    return jax.jit(jax.value_and_grad(loss))


@by_every_solver
@pytest.mark.parametrize(("scale", "temperature"), [(1.0, 1.0), (100.0, 1.0), (1.0, 0.003), (1e4, 1.0), (0.0, 1.0)])
def test_gradients_are_finite(solver, scale, temperature):
    q = np.float32(scale) * Q
    value, grads = slopes(solver)(q, temperature)
    chex.assert_tree_all_finite((value, grads))
    if (scale, temperature) == (1.0, 1.0):
        direction = drawn.normal(*Q.shape, seed=8)
        ends = [float(np.sum(WEIGHTS * solve(q + step * direction, solver=solver))) for step in (1e-2, -1e-2)]
        chex.assert_trees_all_close(float(np.sum(grads * direction)), (ends[0] - ends[1]) / 2e-2, rtol=1e-2)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("temperature", "iterations"), [(3.0, 1), (1.0, 7), (0.1, 20)])
def test_gradients_are_those_of_unrolled_iterations(temperature, iterations, symmetric):
    def one(q):
        def iteration(logits, _):
            logits = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
            return logits - jax.nn.logsumexp(logits, -2, keepdims=True), None

        logits, _ = jax.lax.scan(iteration, q / temperature, length=iterations + 1)
        return jnp.exp(logits - jax.nn.logsumexp(logits, -1, keepdims=True))

    unrolled = lambda q: 0.5 * (one(q) + one(q.T).T) if symmetric else one(q)
    scaled = lambda q: SOLVERS["scaling"](q, temperature, iterations, symmetric)

    @jax.jit
    def both(q):
        plans, slopes = zip(*(jax.vjp(solve, q) for solve in (scaled, unrolled)), strict=True)
        return plans, [slope(WEIGHTS[0]) for slope in slopes]

    plans, slopes = both(Q[0])
    chex.assert_trees_all_close(*plans, atol=1e-6)
    chex.assert_trees_all_close(*slopes, atol=2e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_have_gradients(symmetric):
    """Aligners learn through the steps of their descent."""
    loss = lambda q: jnp.sum(WEIGHTS[0] * SOLVERS["scaling"](q, 1.0, 3, symmetric))
    slope = jax.jit(jax.grad(lambda q: jnp.sum(WEIGHTS[1] * jax.grad(loss)(q))))(Q[0])
    along = jax.jit(lambda q: jnp.sum(WEIGHTS[1] * jax.grad(loss)(q)))
    ends = [float(along(Q[0] + step * WEIGHTS[2])) for step in (1e-2, -1e-2)]
    chex.assert_trees_all_close(float(np.sum(slope * WEIGHTS[2])), (ends[0] - ends[1]) / 2e-2, rtol=2e-2)


@pytest.mark.parametrize("temperature", [0.03, 0.003, 0.0003])
def test_many_iterations_at_any_temperature(temperature):
    # more units than can be told apart: of many, all good partners are those of others too
    q, weights = 2 * drawn.normal(48, 48, seed=2), drawn.normal(48, 48, seed=3)
    solved = lambda q, temperature: sinkhorn(q, temperature=temperature, iterations=100, solver="scaling")
    loss = lambda q, temperature: (jnp.sum(weights * (plan := solved(q, temperature))), plan)
    (_, plan), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(q, temperature)
    chex.assert_tree_all_finite(grads)
    for axis in (0, 1):
        chex.assert_trees_all_close(plan.sum(axis), np.ones(48, np.float32), atol=0.1)
    worth = lambda plan: float(np.sum(np.asarray(plan) * q))
    assert worth(plan) > 0.8 * np.take_along_axis(q, np.asarray(hungarian(q))[:, None], 1).sum()


def test_large_matrices_are_solved_as_small_ones_are(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    n = math.isqrt(soft.FILLS_A_CACHE) + 1
    scores = {"h0": drawn.normal(n, n), "h1": drawn.normal(2, n, n, seed=1)}
    one = functools.partial(SOLVERS["scaling"], temperature=1.0, iterations=3, symmetric=False)
    expected = jax.jit(lambda q: {"h0": one(q["h0"]), "h1": jax.vmap(one)(q["h1"])})(scores)
    solved = lambda q: soft_assign(q, iterations=3, symmetric=False, solver="scaling")
    chex.assert_trees_all_close(jax.jit(solved)(scores), expected, rtol=1e-5)
    pairs = jax.tree.map(lambda q: np.stack([q, -q]), scores)
    mapped = jax.jit(jax.vmap(solved))
    products = [line for line in mapped.lower(pairs).as_text().splitlines() if "dot_general" in line]
    assert products and not any(f"2x{n}x{n}" in line for line in products), "pairs are solved one after the other"
    chex.assert_trees_all_close(jax.tree.map(lambda plan: plan[0], mapped(pairs)), expected, rtol=1e-5)


@by_every_solver
def test_batches_are_solved_one_by_one(solver):
    expected = solve(solver=solver)
    one = lambda q: sinkhorn(q, solver=solver)
    chex.assert_trees_all_close(solve(Q[2], solver=solver), expected[2], atol=1e-6)
    pairs = jax.jit(jax.vmap(jax.vmap(one)))(Q.reshape(2, 2, 6, 6))
    chex.assert_trees_all_close(np.asarray(pairs).reshape(Q.shape), expected, atol=1e-6)


def test_the_temperature_may_be_traced():
    traced = jax.jit(lambda t: sinkhorn(Q, temperature=t))(0.5)
    chex.assert_trees_all_close(traced, solve(temperature=0.5), atol=1e-6)


def test_soft_assign_solves_every_group():
    groups = {"h0": Q[0], "heads": drawn.normal(2, 3, 3, seed=1), "h1": Q[1]}
    options = {"temperature": 0.5, "iterations": 15, "solver": "scaling"}
    expected = {group: solve(q, **options) for group, q in groups.items()}
    plans = soft_assign(groups, **options)
    assert list(plans) == list(groups)
    chex.assert_trees_all_close(plans, expected, atol=1e-6)
    stacked = jax.tree.map(lambda x: np.stack([-x, x]), groups)
    batched = jax.jit(jax.vmap(lambda q: soft_assign(q, **options)))(stacked)
    chex.assert_trees_all_close(jax.tree.map(lambda p: np.asarray(p)[1], batched), expected, atol=1e-6)


def test_errors():
    for shape in ((3,), (3, 4), (2, 4, 3)):
        with pytest.raises(ValueError, match=r"sinkhorn: scores must be square matrices \[\.\.\., n, n\], found shape"):
            sinkhorn(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"solver must be one of .*'ott'.*got 'magic'"):
        sinkhorn(np.zeros((3, 3), np.float32), solver="magic")
