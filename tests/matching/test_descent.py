"""Sinkhorn re-basin, the straight-through estimator and refinement descend on the task loss of trained networks."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian
from dwalign.matching import chain, naive, refine, sinkhorn_rebasin, straight_through, weight_matching
from dwalign.networks import mlp
from dwalign.program import Data, Task, cross_entropy
from dwalign.symmetry import Alignment, identity, permute

SHORT = {
    sinkhorn_rebasin: sinkhorn_rebasin.using(iterations=80),
    straight_through: straight_through.using(iterations=15, images=1797),
    refine: refine.using(steps=20),
}
METHODS = list(SHORT)
KEYS = jax.random.split(jax.random.key(0), 3)


def at(tree, k=0):
    return jax.tree.map(lambda leaf: leaf[k], tree)


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@pytest.fixture(scope="module")
def midpoint_loss(digits):
    net, a, b, batch = digits

    def one(a, b, perms):
        middle = jax.tree.map(lambda x, y: 0.5 * (x + y), a, permute(net.spec, b, perms))
        return cross_entropy(net.apply(middle, batch[0]), batch[1])

    many = jax.jit(jax.vmap(one))
    return lambda perms: np.asarray(many(a, b, perms))


@pytest.fixture(scope="module")
def solved(digits):
    """What each method finds for all pairs, traced, `solved(method)`."""
    net, a, b, batch = digits

    @functools.cache
    def solve(method):
        run = lambda a, b, k: SHORT[method](net, a, b, key=k, data=batch)
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(a, b, KEYS))

    return solve


@pytest.mark.parametrize("method", METHODS)
def test_lowers_the_midpoint_loss(digits, solved, midpoint_loss, method):
    found = solved(method)
    chex.assert_shape(found.history, (3, {sinkhorn_rebasin: 80, straight_through: 15, refine: 20}[method]))
    unaligned = midpoint_loss(stack([identity(digits[0].spec)] * 3))
    assert np.all(midpoint_loss(found.perms) < 0.7 * unaligned)


def test_straight_through_keeps_the_best_permutation_it_saw(solved, midpoint_loss):
    found = solved(straight_through)
    loss = midpoint_loss(found.perms)
    assert np.all(loss <= np.min(found.history, axis=1) * 1.2 + 0.05)
    # the first is that of weight matching, which it starts with
    assert np.mean(loss) < np.mean(found.history[:, 0])


def test_refinement_returns_its_start_where_that_merges_better(digits):
    net, a, b, batch = digits
    on = dict(key=jax.random.key(0), data=batch)
    good = SHORT[refine](net, at(a), at(b), **on)
    found = refine(net, at(a), at(b), **on, start=good, steps=2, learning_rate=-50.0)
    chex.assert_trees_all_equal(found.perms, good.perms, hungarian(found.scores))


def test_sinkhorn_starts_from_given_scores(digits):
    net, a, b = digits[0], at(digits[1]), at(digits[2])
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
def test_eager_and_vmap_agree(digits, solved, method):
    net, a, b, batch = digits
    eager, batched = SHORT[method](net, at(a, 1), at(b, 1), key=KEYS[1], data=batch), at(solved(method), 1)
    # rounding grows with the steps
    chex.assert_trees_all_close(batched.history[:3], eager.history[:3], rtol=1e-3)
    chex.assert_trees_all_equal(batched.perms, eager.perms)
    chex.assert_trees_all_close(batched.scores, eager.scores, atol=1e-2)


def test_a_network_matches_itself(digits):
    net, one, batch = digits[0], at(digits[1]), digits[3]
    on = {"key": jax.random.key(0), "data": batch}
    chex.assert_trees_all_equal(SHORT[straight_through](net, one, one, **on).perms, identity(net.spec))
    start = Alignment(identity(net.spec), {g: 5 * np.eye(n, dtype=np.float32) for g, n in net.spec.sizes.items()})
    found = sinkhorn_rebasin(net, one, one, start=start, iterations=10, **on)
    chex.assert_trees_all_equal(found.perms, identity(net.spec))
    chex.assert_trees_all_equal(naive(net.spec, one, one).perms, identity(net.spec))


def test_refinement_on_a_few_images_a_step_lowers_the_loss_on_all(digits, midpoint_loss):
    net, a, b, batch = digits
    few = naive, refine.using(steps=80, images=16)
    run = lambda a, b, key: [method(net, a, b, key=key, data=batch).perms for method in (few[0], chain(*few))]
    before, after = (midpoint_loss(perms).mean() for perms in jax.jit(jax.vmap(run))(a, b, KEYS))
    assert after < 0.7 * before


@pytest.mark.parametrize("images", [None, 100])
def test_refinement_of_swapped_networks_is_the_transpose(digits, images):
    net, a, b, batch = digits
    rng = np.random.default_rng(3)
    scores = {g: rng.standard_normal((3, n, n), np.float32) for g, n in net.spec.sizes.items()}

    def run(a, b, scores):
        start = Alignment(identity(net.spec), scores)
        return refine(net, a, b, key=jax.random.key(0), data=batch, start=start, steps=3, images=images)

    swap = lambda scores: {g: np.swapaxes(q, -1, -2) for g, q in scores.items()}
    many = jax.jit(jax.vmap(run))
    found, swapped = many(a, b, scores), many(b, a, swap(scores))
    # rounding grows with the steps; the scores have a standard deviation of 2
    chex.assert_trees_all_close(swap(swapped.scores), found.scores, atol=1e-2)
    chex.assert_trees_all_close(swapped.history, found.history, rtol=1e-3)
    assert any(jnp.any(jnp.abs(found.scores[g] - swapped.scores[g]) > 0.1) for g in net.spec.sizes)


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


def test_a_loss_that_is_not_finite_is_said_by_the_call_and_not_by_what_looks_at_its_result():
    net = mlp(3, (4,), 2)
    a, b = (net.init(jax.random.key(k)) for k in range(2))
    data = Data(np.ones((5, 3), np.float32), np.zeros(5, int))
    broken = Task(lambda outputs, labels: jnp.mean(outputs) * jnp.nan)
    with pytest.raises(ValueError, match=r"^hungarian: scores must be finite, found 16 NaN"):
        refine.using(steps=2)(net, a, b, data=data, task=broken)
