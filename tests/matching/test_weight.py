"""Weight matching recovers planted permutations, never lowers its objective, and stops where no group can improve."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.matching import match_scores, weight_matching
from dwalign.matching.weight import objective
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, identity, inverse, permute, random_perms

DRAWS = 4


def planted(spec, draw):
    """Stacked networks, copies with permuted units, and the permutations that undo it."""

    def one(key):
        keys = jax.random.split(key)
        a, perms = draw(spec, keys[0]), random_perms(spec, keys[1])
        return a, permute(spec, a, perms), inverse(spec, perms)

    return jax.vmap(one)(jax.random.split(jax.random.key(0), DRAWS))


def match_all(spec, a, b, **options):
    keys = jax.random.split(jax.random.key(7), DRAWS)
    return jax.jit(jax.vmap(lambda a, b, k: weight_matching(spec, a, b, key=k, **options)))(a, b, keys)


@pytest.mark.parametrize("name", ["mlp", "stack", "recurrent"])
def test_recovers_planted_permutations(specs, draw, name):
    a, b, answer = planted(specs[name], draw)
    found = match_all(specs[name], a, b)
    chex.assert_trees_all_equal(found.perms, answer)


def test_recovers_planted_units_inside_heads_that_are_known(specs, draw):
    spec = specs["heads"]
    a, b, answer = planted(spec, draw)
    shuffled = jax.vmap(lambda k: random_perms(spec, k))(jax.random.split(jax.random.key(3), DRAWS))
    start = Alignment({"head": answer["head"], "unit": shuffled["unit"]})
    run = lambda a, b, s: weight_matching(spec, a, b, key=jax.random.key(0), start=s, restarts=1)
    found = jax.jit(jax.vmap(run))(a, b, start)
    same = jnp.all(found.perms["unit"] == answer["unit"], axis=-1)
    assert jnp.mean(same) > 0.9


def test_never_lowers_its_objective_and_ends_where_no_group_improves(spec, draw):
    keys = jax.random.split(jax.random.key(1), 2 * DRAWS).reshape(2, DRAWS)
    a, b = (jax.vmap(functools.partial(draw, spec))(k) for k in keys)
    found = match_all(spec, a, b)
    value = jax.vmap(functools.partial(objective, spec))
    start = value(a, b, jax.vmap(lambda _: identity(spec))(jnp.arange(DRAWS)))
    history = jnp.concatenate([start[:, None], found.history], axis=1)
    assert jnp.all(jnp.diff(history, axis=1) >= 0)
    assert jnp.all(history[:, -1] > history[:, 0])
    chex.assert_trees_all_close(history[:, -1], value(a, b, found.perms), rtol=1e-4)
    again = jax.jit(
        jax.vmap(lambda a, b, p: weight_matching(spec, a, b, key=jax.random.key(9), start=Alignment(p)).history)
    )(a, b, found.perms)
    chex.assert_trees_all_close(again[:, -1], history[:, -1], rtol=1e-4)


def test_restarts_keep_the_best(draw):
    spec = mlp(6, (24, 24, 24), 3).spec
    a, b = draw(spec, jax.random.key(0)), draw(spec, jax.random.key(1))
    run = jax.jit(
        lambda restarts, k: weight_matching(spec, a, b, key=k, restarts=restarts).history[-1], static_argnums=0
    )
    for seed in range(4):
        key = jax.random.key(seed)
        first = weight_matching(spec, a, b, key=key)
        best = weight_matching(spec, a, b, key=key, restarts=8)
        assert best.history[-1] >= first.history[-1] * (1 - 1e-5)
        chex.assert_trees_all_close(best.history[-1], objective(spec, a, b, best.perms), rtol=1e-4)
    many = jnp.stack([run(8, jax.random.key(s)) for s in range(6)])
    one = jnp.stack([run(1, jax.random.key(s)) for s in range(6)])
    assert jnp.mean(many) > jnp.mean(one)


def test_eager_jit_and_vmap_agree(spec, draw):
    keys = jax.random.split(jax.random.key(2), 2 * DRAWS).reshape(2, DRAWS)
    a, b = (jax.vmap(functools.partial(draw, spec))(k) for k in keys)
    batched = match_all(spec, a, b)
    at = lambda tree: jax.tree.map(lambda leaf: leaf[1], tree)
    key = jax.random.split(jax.random.key(7), DRAWS)[1]
    eager = weight_matching(spec, at(a), at(b), key=key)
    jitted = jax.jit(lambda a, b: weight_matching(spec, a, b, key=key))(at(a), at(b))
    for other in (jitted, at(batched)):
        chex.assert_trees_all_equal(other.perms, eager.perms)
        chex.assert_trees_all_close((other.scores, other.history), (eager.scores, eager.history), rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(eager.scores, match_scores(spec, at(a), at(b), eager.perms), atol=1e-4)


def test_a_network_matches_itself(spec, draw):
    a = draw(spec, jax.random.key(0))
    chex.assert_trees_all_equal(weight_matching(spec, a, a, key=jax.random.key(0)).perms, identity(spec))


@pytest.mark.parametrize("restarts", [1, 2])
def test_gradients_flow_through_the_scores_and_the_aligned_weights(spec, draw, restarts):
    keys = jax.random.split(jax.random.key(2), 4).reshape(2, 2)
    a, b = (jax.vmap(functools.partial(draw, spec))(k) for k in keys)
    key = jax.random.key(7)

    def value(a, b, perms, scores):
        moved = permute(spec, b, perms)
        return sum(jnp.sum(jnp.sin(x * y)) for x, y in zip(*map(jax.tree.leaves, (a, moved)), strict=True)) + sum(
            jnp.sum(jnp.sin(q)) for q in scores.values()
        )

    def loss(a, b):
        found = weight_matching(spec, a, b, key=key, restarts=restarts)
        return value(a, b, found.perms, found.scores)

    def expected(a, b, perms):
        return value(a, b, perms, match_scores(spec, a, b, perms))

    at = lambda tree: jax.tree.map(lambda leaf: leaf[1], tree)
    perms = jax.jit(lambda a, b: weight_matching(spec, a, b, key=key, restarts=restarts).perms)(at(a), at(b))
    slope = jax.grad(expected, (0, 1))(at(a), at(b), perms)
    grad = jax.grad(loss, (0, 1))
    total = jax.grad(lambda a, b: jnp.sum(jax.vmap(loss)(a, b)), (0, 1))
    for found in (grad(at(a), at(b)), at(jax.jit(jax.vmap(grad))(a, b)), at(jax.jit(total)(a, b))):
        chex.assert_trees_all_close(found, slope, rtol=1e-4, atol=1e-4)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(slope))


def test_bad_input_is_named(draw, specs):
    net = mlp(6, (5, 7), 3)
    a = net.init(jax.random.key(0))
    with pytest.raises(ValueError, match="restarts must be a whole number of at least 1; got 0"):
        weight_matching(net.spec, a, a, key=jax.random.key(0), restarts=0)
    other = mlp(6, (5, 8), 3).init(jax.random.key(0))
    with pytest.raises(ValueError, match="dense_1"):
        weight_matching(net.spec, a, other, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"\['dense_2'\]\['bias'\] is \(3,\) and .* is \(1,\)"):
        weight_matching(net.spec, a, mlp(6, (5, 7), 1).init(jax.random.key(0)), key=jax.random.key(0))
