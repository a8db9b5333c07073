"""Activation matching: planted permutations, both scores against numpy, any chunking, dead and constant units."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.matching import activation_matching
from dwalign.networks import mlp
from dwalign.program import Units
from dwalign.symmetry import identity, inverse, permute, random_perms

NET = mlp(6, (5, 7), 3)


def data(count=37):
    return jax.random.normal(jax.random.key(9), (count, 6)), jnp.zeros(count, jnp.int32)


def parameters(seed):
    # biases away from zero, so that no unit is dead on the data
    return jax.tree.map(lambda w: w + 0.1, NET.init(jax.random.key(seed)))


@pytest.mark.parametrize("correlation", [False, True])
def test_recovers_planted_permutations(digits, correlation):
    net, a, _, batch = digits
    for seed in range(3):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], a)
        perms = random_perms(net.spec, jax.random.key(seed))
        found = activation_matching(
            net.spec, one, permute(net.spec, one, perms), capture=net.capture, batch=batch, correlation=correlation
        )
        # units that never fire are all alike: no method that sees only activations can tell them apart
        live = {g: units.max((0, 1)) > 0 for g, units in net.capture(one, batch[0])[1].post.items()}
        assert all(float(alive.mean()) > 0.5 for alive in live.values())
        pick = lambda tree, live=live: {g: perm[live[g]] for g, perm in tree.items()}
        chex.assert_trees_all_equal(pick(found.perms), pick(inverse(net.spec, perms)))


@pytest.mark.parametrize("chunk", [1, 10, 37, 1000])
@pytest.mark.parametrize("correlation", [False, True])
def test_scores_equal_numpy_for_any_chunk(chunk, correlation):
    a, b = parameters(0), parameters(1)
    batch = data()
    found = activation_matching(NET.spec, a, b, capture=NET.capture, batch=batch, correlation=correlation, chunk=chunk)
    post_a, post_b = (NET.capture(p, batch[0])[1].post for p in (a, b))
    for g, n in NET.spec.sizes.items():
        u, v = np.asarray(post_a[g])[:, 0], np.asarray(post_b[g])[:, 0]
        expected = np.corrcoef(u, v, rowvar=False)[:n, n:] if correlation else u.T @ v / len(u)
        np.testing.assert_allclose(found.scores[g], expected, atol=2e-4)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_units_that_never_change_have_no_correlation(value):
    def capture(params, x):
        units = x.at[:, 0].set(value) + params["b"][None] * 0
        return units, Units({"h": units}, {"h": units})

    net = mlp(6, (6,), 2)
    spec = net.spec
    capture_h0 = lambda p, x: (None, Units({}, {"h0": capture({"b": jnp.zeros(6)}, x)[1].post["h"]}))
    a = net.init(jax.random.key(0))
    scores = activation_matching(spec, a, a, capture=capture_h0, batch=data(), correlation=True).scores["h0"]
    chex.assert_trees_all_close(scores[0], jnp.zeros(6), atol=1e-4)
    chex.assert_trees_all_close(scores[:, 0], jnp.zeros(6), atol=1e-4)
    chex.assert_trees_all_close(jnp.diagonal(scores)[1:], jnp.ones(5), atol=1e-4)


def test_large_offsets_cost_no_digits():
    spec = mlp(6, (6,), 2).spec
    capture = lambda p, x: (None, Units({}, {"h0": x + 1000.0}))
    a = mlp(6, (6,), 2).init(jax.random.key(0))
    batch = data(500)
    scores = activation_matching(spec, a, a, capture=capture, batch=batch, correlation=True, chunk=100).scores["h0"]
    chex.assert_trees_all_close(scores, jnp.corrcoef(batch[0], rowvar=False), atol=1e-3)


@pytest.mark.parametrize("correlation", [False, True])
def test_independent_groups_and_positions(specs, draw, correlation):
    """Units of three layers at four positions each: `[m, 4, 3, 6]`."""
    spec = specs["stack"]
    a = draw(spec, jax.random.key(0))
    perms = random_perms(spec, jax.random.key(1))

    def capture(params, x):
        pre = jnp.einsum("mpi,liu->mplu", x, params["up"]) + params["bias"][None, None]
        return None, Units({"units": pre}, {"units": jnp.tanh(pre)})

    inputs = jax.random.normal(jax.random.key(2), (20, 4, 9))
    found = activation_matching(
        spec,
        a,
        permute(spec, a, perms),
        capture=capture,
        batch=(inputs, jnp.zeros(20)),
        correlation=correlation,
        chunk=7,
    )
    chex.assert_trees_all_equal(found.perms, inverse(spec, perms))


@pytest.mark.parametrize("correlation", [False, True])
def test_eager_jit_and_vmap_agree(digits, correlation):
    net, a, b, batch = digits
    run = lambda a, b: activation_matching(net.spec, a, b, capture=net.capture, batch=batch, correlation=correlation)
    batched = jax.vmap(run)(a, b)
    at = lambda tree, k: jax.tree.map(lambda leaf: leaf[k], tree)
    for k in range(2):
        eager, jitted = run(at(a, k), at(b, k)), jax.jit(run)(at(a, k), at(b, k))
        chex.assert_trees_all_equal(at(batched, k).perms, eager.perms, jitted.perms)
        chex.assert_trees_all_close(at(batched, k).scores, eager.scores, jitted.scores, rtol=1e-3, atol=1e-4)


def test_a_network_matches_itself(digits):
    net, a, _, batch = digits
    one = jax.tree.map(lambda leaf: leaf[0], a)
    found = activation_matching(net.spec, one, one, capture=net.capture, batch=batch, correlation=True)
    chex.assert_trees_all_equal(found.perms, identity(net.spec))


def test_bad_input_is_named(specs, draw):
    a = parameters(0)
    run = lambda **options: activation_matching(NET.spec, a, a, **{"capture": NET.capture, "batch": data(), **options})
    with pytest.raises(ValueError, match="at least one"):
        run(batch=data(0))
    with pytest.raises(ValueError, match="must be a pair"):
        run(batch=None)
    with pytest.raises(ValueError, match=r"'h0'.*5"):
        run(capture=lambda p, x: (None, Units({}, {"h0": jnp.zeros((x.shape[0], 4))})))
