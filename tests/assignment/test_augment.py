"""Assignment on the device finds the optima that scipy finds on the host."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dwalign.assignment import augmenting_paths, hard, hungarian, refuse_unsolved
from tests import drawn


def value(scores, perms):
    return np.take_along_axis(np.asarray(scores, np.float64), np.asarray(perms)[..., None], -1)[..., 0].sum(-1)


def best(scores):
    flat = scores.reshape(-1, *scores.shape[-2:]).astype(np.float64)
    return np.array([one[linear_sum_assignment(-one)].sum() for one in flat]).reshape(scores.shape[:-2])


def alike(n):
    """Features of units and of noisy copies: what methods solve."""
    x = drawn.normal(4, n, 16, seed=n)
    return x @ (x[:, ::-1] + drawn.normal(4, n, 16, seed=n + 1)).swapaxes(1, 2)


def copies(n):
    """Dead and duplicate units: many optima."""
    scores = drawn.normal(4, n, n, seed=n)
    scores[:, ::2] = 0
    scores[..., ::3] = scores[..., :1]
    return scores


SCORES = {
    "normal": lambda n: drawn.normal(4, n, n, seed=n),
    "huge": lambda n: 1e30 * drawn.normal(4, n, n, seed=n),
    "tiny": lambda n: 1e-30 * drawn.normal(4, n, n, seed=n),
    "far from zero": lambda n: 1000 + drawn.normal(4, n, n, seed=n),
    "whole numbers": lambda n: drawn.normal(4, n, n, seed=n).round(),
    "alike": alike,
    "copies": copies,
}


@pytest.mark.parametrize("kind", SCORES)
def test_finds_the_optimum(kind):
    for n in (1, 2, 7, 40):
        scores = SCORES[kind](n)
        perms = jax.jit(augmenting_paths)(scores)
        assert perms.dtype == jnp.int32
        np.testing.assert_array_equal(np.sort(perms, -1), np.broadcast_to(np.arange(n), perms.shape))
        size = n * np.abs(scores).max() or 1.0
        np.testing.assert_allclose(value(scores, perms) / size, best(scores) / size, atol=2e-7)


def test_each_problem_of_a_batch_is_solved_as_if_alone():
    scores = np.stack([SCORES[kind](16)[0] for kind in SCORES])
    together = np.asarray(jax.jit(augmenting_paths)(scores))
    alone = [jax.jit(augmenting_paths)(one) for one in scores]
    np.testing.assert_array_equal(together, np.stack(alone))
    np.testing.assert_array_equal(jax.jit(jax.vmap(augmenting_paths))(scores), together)


def test_scores_that_are_not_finite_have_no_answer():
    scores = drawn.normal(3, 5, 5)
    scores[1, 2, 3] = np.nan
    perms = np.asarray(jax.jit(augmenting_paths)(scores))
    np.testing.assert_array_equal(perms[1], np.full(5, -1))
    assert np.all(perms[[0, 2]] >= 0)
    refuse_unsolved({"h": perms[0], "map": np.full((2, 2), -0.5)})
    with pytest.raises(ValueError, match=r"scores must be finite, found NaN or infinite values for 1 of the groups"):
        refuse_unsolved({"h": perms, "other": perms[0]})


@pytest.mark.parametrize("within", [lambda f: f, jax.vmap], ids=["one", "vmap"])
def test_accelerators_solve_trees_without_the_host(within):
    """What is lowered for them holds no call to it, and solves as the host does."""
    scores = drawn.named(a=(2, 6, 6), heads=(2, 3, 4, 4), b=(2, 6, 6))
    program = jax.jit(within(hungarian)).trace(scores)
    on_cpu, elsewhere = (program.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
    assert "callback" in on_cpu and "callback" not in elsewhere
    solved = jax.jit(within(lambda q: dict(zip(q, hard._on_the_device(*q.values()), strict=True))))(scores)
    chex.assert_trees_all_equal(solved, hungarian(scores))
