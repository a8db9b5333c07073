"""Every method on every architecture: none of them knows what it matches."""

import functools

import chex
import jax
import numpy as np
import pytest

from dwalign.matching import (
    activation_matching,
    activation_matching_correlation,
    feature_matching,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.networks import mlp
from dwalign.program import REGRESSION, Data, mean_squared_error, network
from dwalign.symmetry import Alignment, SpecError, inverse, permute, to_matrices
from tests import drawn
from tests.networks.declared import CASES, traced

# recurrent with fused gates, and layers stacked by a scan on a residual stream; more are in tests/deepalign
SHAPES = ("lstm_fused", "vit_fused_scan")


@functools.cache
def planted(name):
    """A network, its parameters, a relabelled copy, and what a method should find."""
    params = drawn.weights(traced(name).params)
    net = network(traced(name).apply, params, CASES[name].example)
    hidden = drawn.perms(net.spec, 1)
    return net, params, permute(net.spec, params, hidden), inverse(net.spec, hidden)


@pytest.mark.parametrize("name, rounds", [("lstm_fused", 2), ("vit_fused_scan", 1)])
def test_features_find_what_is_planted_and_weight_matching_keeps_it(name, rounds):
    net, a, b, expected = planted(name)
    spec = net.spec

    start = feature_matching(spec, a, b, key=jax.random.key(2), channels=8, rounds=rounds)
    found, kept = start.perms, weight_matching(spec, a, b, key=jax.random.key(3), start=start, sweeps=2).perms
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(kept, expected)


@pytest.mark.parametrize(
    "name, method", [("vgg_batch", straight_through), ("lstm_fused", sinkhorn_rebasin), ("vit_fused_scan", refine)]
)
def test_optimisers_keep_a_perfect_start(name, method):
    """Aligned with what is planted, the midpoint is the network itself: it reproduces its own outputs."""
    net, a, b, expected = planted(name)
    inputs = CASES[name].example
    data = Data(inputs, np.asarray(jax.jit(net.apply)(a, inputs)))
    # confident enough that soft assignments are hard ones, and that noise in a gradient of zero moves nothing
    start = Alignment(expected, {g: 50.0 * matrix for g, matrix in to_matrices(expected).items()})
    settings = {
        straight_through: {"iterations": 2},
        sinkhorn_rebasin: {"iterations": 2, "spread": 50.0},
        refine: {"steps": 2, "spread": 50.0},
    }[method]
    found = method(net, a, b, key=jax.random.key(3), data=data, task=REGRESSION, start=start, **settings)
    chex.assert_trees_all_equal(found.perms, expected)
    unaligned = jax.tree.map(lambda x, y: 0.5 * (x + y), a, b)
    assert found.history[0] < 1e-9 < 1e-4 < mean_squared_error(jax.jit(net.apply)(unaligned, inputs), data.labels)


@pytest.mark.parametrize("name", ["vgg_batch", *SHAPES])
def test_activations_find_what_is_planted(name):
    net, a, b, expected = planted(name)
    inputs = drawn.normal(32, *CASES[name].example.shape[1:], seed=4)
    found = activation_matching_correlation(net, a, b, data=Data(inputs))
    post = jax.tree.map(np.asarray, jax.jit(net.capture)(a, inputs)[1].post)
    for g, perm in found.perms.items():
        responses = post[g].reshape(-1, *perm.shape)
        # units that are silent on all inputs cannot be told apart by what they answer
        lively = np.ptp(responses, axis=0) > 0
        assert lively.any(), g
        chex.assert_trees_all_equal(perm[lively], expected[g][lively])


@pytest.mark.parametrize(
    "method",
    [weight_matching, feature_matching, activation_matching, straight_through, sinkhorn_rebasin, refine],
)
def test_a_pair_with_other_outputs_is_named(method):
    """A spec leaves outputs open; one output would broadcast against three."""
    net, other = (mlp(4, (5,), outputs) for outputs in (3, 1))
    data = Data(np.ones((2, 4), np.float32), np.zeros(2, np.int32))
    a, b = drawn.weights(net.params), drawn.weights(other.params)
    with pytest.raises(SpecError, match=r"same shapes.*same inputs and outputs"):
        method(net, a, b, data=data)
