"""Activation matching: planted permutations, both scores against numpy, any chunking, dead and constant units."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.matching import activation_matching, activation_matching_correlation
from dwalign.networks import mlp
from dwalign.program import Data, Network, Units
from dwalign.symmetry import identity, inverse, permute
from tests import drawn

NET = mlp(6, (5, 7), 3)
METHODS = {False: activation_matching, True: activation_matching_correlation}


def data(count=37):
    return drawn.normal(count, 6, seed=9), np.zeros(count, np.int32)


def seen_by(spec, params, capture):
    """A network of which only what its units answer is asked."""
    return Network(lambda params, x: x, spec, params, None, capture)


def parameters(seed):
    # biases above zero, so that no unit is dead on the data
    return jax.tree.map(lambda w: np.abs(w) if w.ndim == 1 else w, drawn.weights(NET.params, seed))


@functools.cache
def responses(net):
    """What the units answer, compiled, `(params, inputs) -> {group: array}`."""
    answer = jax.jit(lambda params, inputs: net.capture(params, inputs)[1].post)
    return lambda params, inputs: jax.tree.map(np.asarray, answer(params, inputs))


@pytest.mark.parametrize("correlation", [False, True])
def test_recovers_planted_permutations(digits, correlation):
    net, a, _, batch = digits
    for seed in range(3):
        one = jax.tree.map(lambda leaf, seed=seed: leaf[seed], a)
        perms = drawn.perms(net.spec, seed)
        found = METHODS[correlation](net, one, permute(net.spec, one, perms), data=batch)
        # units that never fire are all alike: no method that sees only activations can tell them apart
        live = {g: units.max((0, 1)) > 0 for g, units in responses(net)(one, batch[0]).items()}
        assert all(float(alive.mean()) > 0.5 for alive in live.values())
        pick = lambda tree, live=live: {g: perm[live[g]] for g, perm in tree.items()}
        chex.assert_trees_all_equal(pick(found.perms), pick(inverse(net.spec, perms)))


@pytest.mark.parametrize("chunk", [10, 37, 1000])
@pytest.mark.parametrize("correlation", [False, True])
def test_scores_equal_numpy_for_any_chunk(chunk, correlation):
    a, b = parameters(0), parameters(1)
    batch = data()
    found = METHODS[correlation](NET, a, b, data=batch, chunk=chunk)
    post_a, post_b = (responses(NET)(p, batch[0]) for p in (a, b))
    for g, n in NET.spec.sizes.items():
        u, v = np.asarray(post_a[g])[:, 0], np.asarray(post_b[g])[:, 0]
        expected = np.corrcoef(u, v, rowvar=False)[:n, n:] if correlation else u.T @ v / len(u)
        np.testing.assert_allclose(found.scores[g], expected, atol=2e-4)


def test_positions_count_as_examples():
    # what is answered at one position all the time tells units apart as well as what changes from example to example
    places = 3 * drawn.normal(1, 4, 6)
    capture = lambda p, x: (None, Units({}, {"h0": x[:, None] + places}))
    net, batch = mlp(6, (6,), 2), data()
    a = drawn.weights(net.params)
    scores = METHODS[True](seen_by(net.spec, a, capture), a, a, data=batch).scores["h0"]
    expected = np.corrcoef((batch[0][:, None] + places).reshape(-1, 6), rowvar=False)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_units_that_never_change_have_no_correlation(value):
    def capture(params, x):
        units = x.at[:, 0].set(value) + params["b"][None] * 0
        return units, Units({"h": units}, {"h": units})

    net = mlp(6, (6,), 2)
    spec = net.spec
    capture_h0 = lambda p, x: (None, Units({}, {"h0": capture({"b": jnp.zeros(6)}, x)[1].post["h"]}))
    a = drawn.weights(net.params)
    scores = METHODS[True](seen_by(spec, a, capture_h0), a, a, data=data()).scores["h0"]
    chex.assert_trees_all_close(scores[0], jnp.zeros(6), atol=1e-4)
    chex.assert_trees_all_close(scores[:, 0], jnp.zeros(6), atol=1e-4)
    chex.assert_trees_all_close(jnp.diagonal(scores)[1:], jnp.ones(5), atol=1e-4)


def test_large_offsets_cost_no_digits():
    spec = mlp(6, (6,), 2).spec
    capture = lambda p, x: (None, Units({}, {"h0": x + 1000.0}))
    a = drawn.weights(mlp(6, (6,), 2).params)
    batch = data(500)
    scores = METHODS[True](seen_by(spec, a, capture), a, a, data=batch, chunk=100).scores["h0"]
    chex.assert_trees_all_close(scores, jnp.corrcoef(batch[0], rowvar=False), atol=1e-3)


@pytest.mark.parametrize("correlation", [False, True])
def test_independent_groups_and_positions(specs, draw, correlation):
    """Units of three layers at four positions each: `[m, 4, 3, 6]`."""
    spec = specs["stack"]
    a, perms = draw(spec, 0), drawn.perms(spec, 1)

    def capture(params, x):
        pre = jnp.einsum("mpi,liu->mplu", x, params["up"]) + params["bias"][None, None]
        return None, Units({"units": pre}, {"units": jnp.tanh(pre)})

    inputs = drawn.normal(20, 4, 9, seed=2)
    network = seen_by(spec, a, capture)
    found = METHODS[correlation](network, a, permute(spec, a, perms), data=Data(inputs), chunk=7)
    chex.assert_trees_all_equal(found.perms, inverse(spec, perms))


@pytest.mark.parametrize("correlation", [False, True])
def test_eager_and_vmap_agree(digits, correlation):
    net, a, b, batch = digits
    run = lambda a, b: METHODS[correlation](net, a, b, data=batch)
    batched = jax.jit(jax.vmap(run))(a, b)
    at = lambda tree, k: jax.tree.map(lambda leaf: leaf[k], tree)
    for k in range(2):
        eager = run(at(a, k), at(b, k))
        chex.assert_trees_all_equal(at(batched, k).perms, eager.perms)
        chex.assert_trees_all_close(at(batched, k).scores, eager.scores, rtol=1e-3, atol=1e-4)


def test_a_network_matches_itself(digits):
    net, a, _, batch = digits
    one = jax.tree.map(lambda leaf: leaf[0], a)
    found = METHODS[True](net, one, one, data=batch)
    chex.assert_trees_all_equal(found.perms, identity(net.spec))


def test_bad_input_is_named():
    a = parameters(0)
    run = lambda data, network=NET: activation_matching(network, a, a, data=data)
    with pytest.raises(ValueError, match="at least one"):
        run(data(0))
    with pytest.raises(ValueError, match="needs data"):
        run(None)
    with pytest.raises(ValueError, match=r"'h0'.*5"):
        run(data(), seen_by(NET.spec, a, lambda p, x: (None, Units({}, {"h0": jnp.zeros((x.shape[0], 4))}))))
    with pytest.raises(ValueError, match=r"capture must give \(outputs, Units\)"):
        run(data(), seen_by(NET.spec, a, NET.apply))
