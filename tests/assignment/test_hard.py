"""Hungarian assignment is scipy's optimum wherever it is called."""

import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dwalign.assignment import hard, hungarian
from tests import drawn


def optimum(scores):
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return scores[rows, columns].sum()


def value(scores, perm):
    return np.take_along_axis(np.asarray(scores), np.asarray(perm)[..., None], -1)[..., 0].sum(-1)


MODES = {
    "eager": lambda f: f,
    "jit": jax.jit,
    "vmap": jax.vmap,
    "vmap of vmap": lambda f: jax.vmap(jax.vmap(f)),
    "jit of vmap": lambda f: jax.jit(jax.vmap(f)),
    "vmap of jit": lambda f: jax.vmap(jax.jit(f)),
    "vmap over the last axis but two": lambda f: jax.vmap(f, in_axes=1, out_axes=1),
    "lax.map": lambda f: lambda x: jax.lax.map(f, x),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_finds_the_optimum(mode):
    scores = {str(n): drawn.normal(3, 2, n, n, seed=n) for n in (1, 2, 7, 33)}
    for name, perms in mode(hungarian)(scores).items():
        n = int(name)
        assert perms.shape == (3, 2, n) and perms.dtype == jnp.int32
        assert np.all(np.sort(perms, -1) == np.arange(n))
        expected = [[optimum(scores[name][i, j].astype(np.float64)) for j in range(2)] for i in range(3)]
        chex.assert_trees_all_close(value(scores[name], perms), np.array(expected, np.float32), rtol=1e-5)


def test_convention():
    scores = np.array([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    assert hungarian(scores).tolist() == [2, 0, 1]


def test_the_optimum_is_not_greedy():
    assert hungarian(np.array([[10.0, 9.0], [9.0, 0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.int32])
def test_other_dtypes(dtype):
    scores = np.random.default_rng(0).permutation(25).reshape(5, 5)
    expected = hungarian(scores.astype(np.float32))
    for solve in (hungarian, jax.jit(hungarian)):
        chex.assert_trees_all_equal(solve(scores.astype(dtype)), expected)


def test_gradients_stop_at_the_assignment():
    scores = drawn.normal(4, 4)

    def loss(scores):
        perm = jax.jit(hungarian)(scores)
        return jnp.sum(jnp.take_along_axis(scores, perm[:, None], -1))

    expected = np.eye(4, dtype=np.float32)[np.asarray(hungarian(scores))]
    for transform in (lambda f: f, jax.jit):
        chex.assert_trees_all_equal(transform(jax.grad(loss))(scores), expected)
    batch = np.stack([scores.T, scores])
    chex.assert_trees_all_equal(np.asarray(jax.jit(jax.vmap(jax.grad(loss)))(batch))[1], expected)
    chex.assert_trees_all_equal(jax.grad(lambda s: jnp.sum(hungarian(s) * 1.0))(scores), np.zeros((4, 4), np.float32))

    def step(carry, _):
        return carry - 0.1 * jax.grad(loss)(carry), None

    final, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=3))(scores)
    chex.assert_tree_all_finite(final)
    through = jax.grad(lambda s: jnp.sum(jax.lax.scan(lambda c, _: (c + loss(c), None), s, length=2)[0]))
    chex.assert_tree_all_finite(jax.jit(through)(scores))


def test_a_tree_of_scores_is_solved_in_one_call(monkeypatch):
    scores = drawn.named(a=(5, 5), heads=(2, 3, 3))
    expected = {group: hungarian(matrix) for group, matrix in scores.items()}
    calls, solve = [], hard.in_threads
    monkeypatch.setattr(hard, "in_threads", lambda *given: calls.append(1) or solve(*given))
    chex.assert_trees_all_equal(hungarian(scores), expected)
    chex.assert_trees_all_equal(jax.block_until_ready(jax.jit(hungarian)(scores)), expected)
    assert len(calls) == 2
    stacked = jax.tree.map(lambda x: np.stack([-x, x]), scores)
    chex.assert_trees_all_equal(jax.tree.map(lambda p: np.asarray(p)[1], jax.vmap(hungarian)(stacked)), expected)
    assert len(calls) == 3
    half = jax.vmap(lambda moved, fixed: hungarian((moved, fixed)), in_axes=(0, None))(stacked["a"], scores["heads"])
    half = jax.tree.map(np.asarray, half)
    chex.assert_trees_all_equal((half[0][1], half[1][0]), (expected["a"], expected["heads"]))
    assert hungarian({}) == {}


def test_arrays_are_solved_where_they_are(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("an eager call needs no callback")

    monkeypatch.setattr(hard, "_inside_a_program", fail)
    scores = jnp.asarray(drawn.normal(2, 4, 4))
    for given in (np.asarray(scores), scores):
        found = hungarian(given)
        assert isinstance(found, type(given)) and found.dtype == jnp.int32
    # constants of a traced program are arrays too
    chex.assert_trees_all_equal(jax.jit(lambda: hungarian(scores))(), found)


ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp
from dwalign.assignment import hungarian

n = 161  # more than 100 kB, which JAX copies in a thread of its own
slow = jax.jit(lambda x: jax.lax.fori_loop(0, 30, lambda _, y: jnp.tanh(y @ y), x)[:n, :n])
x = jnp.ones((300, 300))
loop = jax.jit(lambda q: jax.lax.fori_loop(0, 5, lambda _, q: q[hungarian(q)], q))
for run in (jax.jit(hungarian), lambda q: jax.vmap(hungarian)(q[None]), loop, hungarian):
    for _ in range(8):
        jax.block_until_ready(run(slow(x)))
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot pin a process to one core")
def test_nothing_hangs_on_one_core():
    """The operand is still being computed when the program that solves it is called."""
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", ONE_CORE], env=alone, capture_output=True, text=True, timeout=60)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit, lambda f: lambda x: np.asarray(jax.vmap(f)(x[None]))[0]])
def test_equally_good_units_get_the_same_partners_everywhere(mode):
    """Dead and duplicate units: equal rows and columns."""
    scores = np.random.default_rng(1).standard_normal((12, 12)).astype(np.float32)
    scores[3:7] = 0
    scores[:, 2] = scores[:, 9]
    chex.assert_trees_all_equal(mode(hungarian)(scores), hungarian(scores))
    chex.assert_trees_all_equal(mode(hungarian)(np.ones((9, 9), np.float32)), np.arange(9, dtype=np.int32))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 4, 3)])
def test_scores_must_be_square(shape):
    with pytest.raises(ValueError, match=rf"square matrices \[\.\.\., n, n\], found shape \({shape[0]}"):
        hungarian(np.zeros(shape))


@pytest.mark.parametrize("mode", [lambda f: f, jax.jit])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_scores_must_be_finite(bad, mode):
    scores = np.zeros((2, 3, 3), np.float32)
    scores[1, 2, 0] = bad
    with pytest.raises(Exception, match="scores must be finite, found 1 NaN or infinite"):
        jax.block_until_ready(mode(hungarian)(scores))
