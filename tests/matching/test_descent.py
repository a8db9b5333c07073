"""Sinkhorn re-basin, the straight-through estimator and refinement descend on the task loss of trained networks."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.assignment import hungarian
from dwalign.matching import naive, refine, sinkhorn_rebasin, straight_through, weight_matching
from dwalign.matching.objective import random_scores
from dwalign.program import cross_entropy
from dwalign.symmetry import Alignment, identity, permute, transpose

SHORT = {sinkhorn_rebasin: 150, straight_through: 15, refine: 20}
METHODS = list(SHORT)


def steps(method, count):
    return {"steps" if method is refine else "iterations": count}


def midpoint_loss(net, a, b, perms, batch):
    def one(a, b, perms):
        middle = jax.tree.map(lambda x, y: 0.5 * (x + y), a, permute(net.spec, b, perms))
        return cross_entropy(net.apply(middle, batch[0]), batch[1])

    return jax.vmap(one)(a, b, perms)


def solve_all(method, digits, **options):
    net, a, b, batch = digits
    keys = jax.random.split(jax.random.key(0), 3)
    run = lambda a, b, k: method(net, a, b, key=k, data=batch, **options)
    return jax.jit(jax.vmap(run))(a, b, keys)


def of_identity(digits):
    net, a, b, batch = digits
    perms = jax.vmap(lambda _: identity(net.spec))(jnp.arange(3))
    return midpoint_loss(net, a, b, perms, batch)


@pytest.mark.parametrize("method", METHODS)
def test_lowers_the_midpoint_loss(digits, method):
    net, a, b, batch = digits
    found = solve_all(method, digits, **steps(method, SHORT[method]))
    chex.assert_shape(found.history, (3, SHORT[method]))
    assert jnp.all(midpoint_loss(net, a, b, found.perms, batch) < 0.7 * of_identity(digits))


def test_straight_through_keeps_the_best_permutation_it_saw(digits):
    net, a, b, batch = digits
    keys = jax.random.split(jax.random.key(0), 3)
    matched = jax.jit(jax.vmap(lambda a, b, k: weight_matching(net.spec, a, b, key=k)))(a, b, keys)
    found = solve_all(straight_through, digits, iterations=15, images=len(batch[1]))
    loss = midpoint_loss(net, a, b, found.perms, batch)
    assert jnp.all(loss <= jnp.min(found.history, axis=1) * 1.2 + 0.05)
    assert jnp.mean(loss) < jnp.mean(midpoint_loss(net, a, b, matched.perms, batch))


def test_refinement_returns_its_start_where_that_merges_better(digits):
    net, a, b, batch = digits
    a, b = (jax.tree.map(lambda leaf: leaf[0], tree) for tree in (a, b))
    on = dict(key=jax.random.key(0), data=batch)
    good = refine(net, a, b, **on)
    found = refine(net, a, b, **on, start=good, steps=2, learning_rate=-50.0)
    chex.assert_trees_all_equal(found.perms, good.perms, hungarian(found.scores))


def test_sinkhorn_starts_from_given_scores(digits):
    net, a, b, _ = digits
    at = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    a, b = at(a), at(b)
    scores = weight_matching(net.spec, a, b, key=jax.random.key(0)).scores
    run = functools.partial(sinkhorn_rebasin, net, a, b, key=jax.random.key(0), data=digits[3], iterations=0)
    kept = run(start=Alignment(identity(net.spec), scores))
    chex.assert_trees_all_equal(kept.perms, hungarian(scores))
    assert all(abs(float(q.std()) - 1) < 1e-3 for q in kept.scores.values())
    louder = run(start=Alignment(identity(net.spec), {g: 1000 * q for g, q in scores.items()}))
    chex.assert_trees_all_close(louder.scores, kept.scores, atol=1e-4)
    chex.assert_trees_all_equal(run(start=Alignment(identity(net.spec))).perms, identity(net.spec))
    other = run(start=None).scores
    assert any(jnp.any(other[g] != scores[g]) for g in scores)


@pytest.mark.parametrize("method", METHODS)
def test_eager_jit_and_vmap_agree(digits, method):
    net, a, b, batch = digits
    keys = jax.random.split(jax.random.key(0), 3)
    run = lambda a, b, k: method(net, a, b, key=k, data=batch, **steps(method, 3))
    at = lambda tree: jax.tree.map(lambda leaf: leaf[1], tree)
    eager, jitted = run(at(a), at(b), keys[1]), jax.jit(run)(at(a), at(b), keys[1])
    batched = at(jax.jit(jax.vmap(run))(a, b, keys))
    for other in (jitted, batched):
        chex.assert_trees_all_equal(other.perms, eager.perms)
        chex.assert_trees_all_close((other.scores, other.history), (eager.scores, eager.history), rtol=1e-3, atol=1e-4)


def test_a_network_matches_itself(digits):
    net, a, _, batch = digits
    one = jax.tree.map(lambda leaf: leaf[0], a)
    data = {"key": jax.random.key(0), "data": batch, "iterations": 10}
    chex.assert_trees_all_equal(straight_through(net, one, one, **data).perms, identity(net.spec))
    start = Alignment(identity(net.spec), jax.tree.map(lambda n: 5 * jnp.eye(n), dict(net.spec.sizes)))
    chex.assert_trees_all_equal(sinkhorn_rebasin(net, one, one, start=start, **data).perms, identity(net.spec))
    chex.assert_trees_all_equal(naive(net.spec, one, one).perms, identity(net.spec))


def test_refinement_of_swapped_networks_is_the_transpose(digits):
    net, a, b, batch = digits
    scores = jax.vmap(functools.partial(random_scores, net.spec))(jax.random.split(jax.random.key(3), 3))

    def run(a, b, scores):
        start = Alignment(identity(net.spec), scores)
        return refine(net, a, b, key=jax.random.key(0), data=batch, start=start, steps=3)

    swap = jax.jit(jax.vmap(functools.partial(transpose, net.spec)))
    many = jax.jit(jax.vmap(run))
    found, swapped = many(a, b, scores), many(b, a, swap(scores))
    # rounding grows with the steps; the scores have a standard deviation of 2
    chex.assert_trees_all_close(swap(swapped.scores), found.scores, atol=1e-2)
    chex.assert_trees_all_close(swapped.history, found.history, rtol=1e-3)
    assert any(jnp.any(jnp.abs(found.scores[g] - swapped.scores[g]) > 0.1) for g in net.spec.sizes)
    at = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
    for mode in (lambda f: f, jax.jit):
        one, other = mode(run)(at(a), at(b), at(scores)), mode(run)(at(b), at(a), at(swap(scores)))
        chex.assert_trees_all_close(transpose(net.spec, other.scores), one.scores, atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_bad_batches_are_named(digits, method):
    net, a, _, (x, y) = digits
    one = jax.tree.map(lambda leaf: leaf[0], a)
    run = lambda batch: method(net, one, one, key=jax.random.key(0), data=batch)
    with pytest.raises(ValueError, match=method.name + ": needs data"):
        run(None)
    with pytest.raises(ValueError, match="equally many"):
        run((x, y[:-1]))
    with pytest.raises(ValueError, match="at least one"):
        run((x[:0], y[:0]))
