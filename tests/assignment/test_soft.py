"""Sinkhorn: doubly stochastic, symmetric, Hungarian in the limit, differentiable."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian, sinkhorn, soft_assign
from dwalign.assignment.soft import SOLVERS

by_every_solver = pytest.mark.parametrize("solver", sorted(SOLVERS))


def scores(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@by_every_solver
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("temperature", "iterations", "atol"), [(1.0, 20, 1e-4), (0.3, 100, 1e-3)])
def test_rows_and_columns_sum_to_one(solver, symmetric, temperature, iterations, atol):
    plan = sinkhorn(
        scores((3, 2, 8, 8)), temperature=temperature, iterations=iterations, symmetric=symmetric, solver=solver
    )
    assert plan.shape == (3, 2, 8, 8) and jnp.all(plan >= 0)
    chex.assert_trees_all_close(plan.sum(-1), jnp.ones((3, 2, 8)), atol=atol)
    chex.assert_trees_all_close(plan.sum(-2), jnp.ones((3, 2, 8)), atol=atol)


@by_every_solver
def test_one_sum_is_exact_after_any_number_of_iterations(solver):
    plan = sinkhorn(scores((8, 8)), iterations=1, symmetric=False, temperature=0.3, solver=solver)
    rows, columns = jnp.abs(plan.sum(-1) - 1).max(), jnp.abs(plan.sum(-2) - 1).max()
    assert min(rows, columns) < 1e-5 < max(rows, columns)


@by_every_solver
@pytest.mark.parametrize("iterations", [1, 7, 20])
def test_swapping_the_networks_transposes(solver, iterations):
    solve = lambda q: sinkhorn(q, iterations=iterations, temperature=0.2, solver=solver)
    q = scores((4, 6, 6))
    swapped = jnp.swapaxes(q, -1, -2)
    chex.assert_trees_all_close(solve(swapped), jnp.swapaxes(solve(q), -1, -2), atol=1e-6)
    chex.assert_trees_all_close(jax.jit(solve)(swapped), jnp.swapaxes(jax.jit(solve)(q), -1, -2), atol=1e-6)
    if iterations == 1:
        broken = sinkhorn(swapped, iterations=1, temperature=0.2, symmetric=False, solver=solver)
        kept = sinkhorn(q, iterations=1, temperature=0.2, symmetric=False, solver=solver)
        assert jnp.abs(broken - jnp.swapaxes(kept, -1, -2)).max() > 1e-2, "without the average the law must break"


@by_every_solver
def test_permuting_units_permutes_the_plan(solver):
    q, rows, columns = scores((6, 6)), jnp.array([3, 0, 5, 1, 4, 2]), jnp.array([1, 2, 0, 5, 3, 4])
    solve = lambda q: sinkhorn(q, temperature=0.5, solver=solver)
    chex.assert_trees_all_close(solve(q[rows][:, columns]), solve(q)[rows][:, columns], atol=1e-5)


@by_every_solver
def test_small_temperature_is_hungarian(solver):
    q = scores((5, 7, 7), seed=1)
    plan, best = sinkhorn(q, temperature=0.02, iterations=500, solver=solver), hungarian(q)
    chex.assert_trees_all_equal(hungarian(plan), best)
    optimum = jnp.take_along_axis(q, best[..., None], -1).sum((-1, -2))
    entropy_bound = 0.02 * 7 * np.log(7)
    assert jnp.all(jnp.abs(jnp.sum(plan * q, (-1, -2)) - optimum) < entropy_bound)


@by_every_solver
def test_matches_plain_sinkhorn_in_double_precision(solver):
    q = scores((6, 6), seed=2)
    plan = np.exp(np.asarray(q, np.float64))
    for _ in range(300):
        plan /= plan.sum(0, keepdims=True)
        plan /= plan.sum(1, keepdims=True)
    chex.assert_trees_all_close(
        np.asarray(sinkhorn(q, iterations=100, solver=solver)), plan.astype(np.float32), atol=1e-4
    )


@by_every_solver
def test_constants_on_rows_and_columns_do_not_matter(solver):
    q = scores((6, 6), seed=3)
    shifted = q + 5 * scores((6, 1), seed=4).repeat(6, 1) + 5 * scores((1, 6), seed=5).repeat(6, 0)
    chex.assert_trees_all_close(
        sinkhorn(shifted, iterations=100, solver=solver), sinkhorn(q, iterations=100, solver=solver), atol=1e-4
    )


@by_every_solver
@pytest.mark.parametrize(("scale", "temperature"), [(1.0, 1.0), (100.0, 1.0), (1.0, 0.003), (1e4, 1.0), (0.0, 1.0)])
def test_gradients_are_finite(solver, scale, temperature):
    q, weights = scale * scores((2, 8, 8), seed=6), scores((2, 8, 8), seed=7)
    loss = lambda q: jnp.sum(weights * sinkhorn(q, temperature=temperature, solver=solver))
    value, grads = jax.jit(jax.value_and_grad(loss))(q)
    chex.assert_tree_all_finite((value, grads))
    if (scale, temperature) == (1.0, 1.0):
        direction = scores((2, 8, 8), seed=8)
        slope = (loss(q + 1e-2 * direction) - loss(q - 1e-2 * direction)) / 2e-2
        chex.assert_trees_all_close(jnp.sum(grads * direction), slope, rtol=1e-2)


@by_every_solver
def test_jit_and_vmap_agree_with_eager(solver):
    q = scores((3, 2, 5, 5), seed=9)
    solve = lambda q: sinkhorn(q, solver=solver)
    expected = solve(q)
    chex.assert_trees_all_close(jax.jit(solve)(q), expected, atol=1e-6)
    chex.assert_trees_all_close(jax.vmap(solve)(q), expected, atol=1e-6)
    chex.assert_trees_all_close(jax.vmap(jax.vmap(solve))(q), expected, atol=1e-6)
    chex.assert_trees_all_close(jnp.stack([solve(x) for x in q[0]]), expected[0], atol=1e-6)


def test_the_temperature_may_be_traced():
    q = scores((5, 5))
    traced = jax.jit(lambda t: sinkhorn(q, temperature=t))(0.5)
    chex.assert_trees_all_close(traced, sinkhorn(q, temperature=0.5), atol=1e-6)


def test_soft_assign_solves_every_group():
    groups = {"h0": scores((5, 5)), "heads": scores((2, 3, 3), seed=1), "h1": scores((5, 5), seed=2)}
    options = {"temperature": 0.5, "iterations": 15}
    expected = {group: sinkhorn(q, **options) for group, q in groups.items()}
    plans = soft_assign(groups, **options)
    assert list(plans) == list(groups)
    chex.assert_trees_all_close(plans, expected, atol=1e-6)
    stacked = jax.tree.map(lambda x: jnp.stack([-x, x]), groups)
    batched = jax.jit(jax.vmap(lambda q: soft_assign(q, **options)))(stacked)
    chex.assert_trees_all_close(jax.tree.map(lambda p: p[1], batched), expected, atol=1e-6)


def test_errors():
    for shape in ((3,), (3, 4), (2, 4, 3)):
        with pytest.raises(ValueError, match=r"sinkhorn: scores must be square matrices \[\.\.\., n, n\], found shape"):
            sinkhorn(jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"solver must be one of .*'ott'.*got 'magic'"):
        sinkhorn(jnp.zeros((3, 3)), solver="magic")
