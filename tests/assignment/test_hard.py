"""Hungarian assignment is scipy's optimum wherever it is called."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from dwalign.assignment import hungarian


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
@pytest.mark.parametrize("n", [1, 2, 7, 33])
def test_finds_the_optimum(mode, n):
    scores = jax.random.normal(jax.random.key(n), (3, 2, n, n))
    perms = mode(hungarian)(scores)
    assert perms.shape == (3, 2, n) and perms.dtype == jnp.int32
    chex.assert_trees_all_equal(jnp.sort(perms, -1), jnp.broadcast_to(jnp.arange(n), (3, 2, n)))
    expected = [[optimum(np.asarray(scores[i, j], np.float64)) for j in range(2)] for i in range(3)]
    chex.assert_trees_all_close(value(scores, perms), np.array(expected), rtol=1e-5)


def test_convention():
    scores = jnp.array([[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    assert hungarian(scores).tolist() == [2, 0, 1]


def test_the_optimum_is_not_greedy():
    assert hungarian(jnp.array([[10.0, 9.0], [9.0, 0.0]])).tolist() == [1, 0]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_other_dtypes(dtype):
    scores = jax.random.permutation(jax.random.key(0), 25).reshape(5, 5)
    chex.assert_trees_all_equal(hungarian(scores.astype(dtype)), hungarian(scores.astype(jnp.float32)))


def test_gradients_stop_at_the_assignment():
    scores = jax.random.normal(jax.random.key(0), (4, 4))

    def loss(scores):
        perm = jax.jit(hungarian)(scores)
        return jnp.sum(jnp.take_along_axis(scores, perm[:, None], -1))

    expected = jax.nn.one_hot(hungarian(scores), 4)
    for transform in (lambda f: f, jax.jit):
        chex.assert_trees_all_equal(transform(jax.grad(loss))(scores), expected)
    batch = jnp.stack([scores, scores.T])
    chex.assert_trees_all_equal(jax.vmap(jax.grad(loss))(batch)[0], expected)
    chex.assert_trees_all_equal(jax.grad(lambda s: jnp.sum(hungarian(s) * 1.0))(scores), jnp.zeros((4, 4)))

    def step(carry, _):
        return carry - 0.1 * jax.grad(loss)(carry), None

    final, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=3))(scores)
    chex.assert_tree_all_finite(final)
    through = jax.grad(lambda s: jnp.sum(jax.lax.scan(lambda c, _: (c + loss(c), None), s, length=2)[0]))(scores)
    chex.assert_tree_all_finite(through)


def test_a_tree_of_scores_is_solved_in_one_call(monkeypatch):
    keys = jax.random.split(jax.random.key(1), 2)
    scores = {"a": jax.random.normal(keys[0], (5, 5)), "heads": jax.random.normal(keys[1], (2, 3, 3))}
    expected = {group: hungarian(matrix) for group, matrix in scores.items()}
    calls, callback = [], jax.pure_callback
    monkeypatch.setattr(jax, "pure_callback", lambda *args, **kwargs: calls.append(1) or callback(*args, **kwargs))
    chex.assert_trees_all_equal(hungarian(scores), expected)
    assert len(calls) == 1
    chex.assert_trees_all_equal(jax.jit(hungarian)(scores), expected)
    stacked = jax.tree.map(lambda x: jnp.stack([-x, x]), scores)
    chex.assert_trees_all_equal(jax.tree.map(lambda p: p[1], jax.vmap(hungarian)(stacked)), expected)
    half = jax.vmap(lambda moved, fixed: hungarian((moved, fixed)), in_axes=(0, None))(stacked["a"], scores["heads"])
    chex.assert_trees_all_equal((half[0][1], half[1][0]), (expected["a"], expected["heads"]))
    assert hungarian({}) == {}


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 4, 3)])
def test_scores_must_be_square(shape):
    with pytest.raises(ValueError, match=rf"square matrices \[\.\.\., n, n\], found shape \({shape[0]}"):
        hungarian(jnp.zeros(shape))


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_scores_must_be_finite(bad):
    scores = jnp.zeros((2, 3, 3)).at[1, 2, 0].set(bad)
    with pytest.raises(Exception, match="scores must be finite, found 1 NaN or infinite"):
        jax.block_until_ready(hungarian(scores))
