"""The scores are the derivative of <a, P.b> by each P, for hard and soft alignments, wherever a group sits."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.matching import match_scores
from dwalign.matching.scores import own_scores
from dwalign.symmetry import identity, permute, to_matrices, transpose
from tests import drawn


def inner(spec, a, b, perms):
    moved = permute(spec, b, perms)
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(moved), strict=True))


@pytest.fixture
def pair(spec, draw):
    return draw(spec, 0), draw(spec, 1)


def soft(spec, seed=2):
    rng = np.random.default_rng(seed)
    matrices = {g: np.exp(rng.standard_normal((*spec.batch_shape(g), n, n), np.float32)) for g, n in spec.sizes.items()}
    for _ in range(30):
        matrices = {g: (p := q / q.sum(-1, keepdims=True)) / p.sum(-2, keepdims=True) for g, q in matrices.items()}
    return matrices


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_scores_are_the_derivative_of_the_inner_product(spec, pair, kind):
    perms = drawn.perms(spec, 2) if kind == "hard" else soft(spec)
    matrices = to_matrices(perms) if kind == "hard" else perms
    expected = jax.jit(jax.grad(lambda p: inner(spec, *pair, p)))(matrices)
    chex.assert_trees_all_close(match_scores(spec, *pair, perms), expected, atol=1e-4)


def test_hard_permutations_and_their_matrices_agree(spec, pair):
    perms = drawn.perms(spec, 2)
    chex.assert_trees_all_close(
        match_scores(spec, *pair, perms), match_scores(spec, *pair, to_matrices(perms)), atol=1e-4
    )


@pytest.mark.parametrize("name", ["mlp", "stack", "recurrent"])
def test_swapping_the_networks_transposes_the_scores(specs, draw, name):
    spec = specs[name]
    a, b = draw(spec, 0), draw(spec, 1)
    plans = soft(spec)
    chex.assert_trees_all_close(
        match_scores(spec, b, a, transpose(spec, plans)), transpose(spec, match_scores(spec, a, b, plans)), atol=1e-4
    )


def test_eager_vmap_and_a_given_own_part_agree(spec, pair, draw):
    a, b = pair
    plans = soft(spec)
    eager = match_scores(spec, a, b, plans)
    chex.assert_shape([eager[g] for g in spec.sizes], [(*spec.batch_shape(g), n, n) for g, n in spec.sizes.items()])
    chex.assert_trees_all_close(match_scores(spec, a, b, plans, own=own_scores(spec, a, b)), eager, atol=1e-4)
    stack = lambda x, y: jax.tree.map(lambda *leaves: np.stack(leaves), x, y)
    both = jax.jit(jax.vmap(lambda *x: match_scores(spec, *x)))(stack(a, b), stack(b, a), stack(plans, soft(spec, 3)))
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[0], both), eager, atol=1e-4)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], both), match_scores(spec, b, a, soft(spec, 3)), atol=1e-4
    )


def test_gradients_are_finite_at_dead_weights(spec, pair):
    zeros = jax.tree.map(np.zeros_like, pair[0])
    total = lambda a, p: sum(jnp.sum(q**2) for q in match_scores(spec, a, zeros, p).values())
    grads = jax.jit(jax.grad(total, argnums=(0, 1)))(zeros, to_matrices(identity(spec)))
    chex.assert_tree_all_finite(grads)
