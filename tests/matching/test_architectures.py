"""Every method on every architecture: none of them knows what it matches."""

import functools

import chex
import jax
import jax.numpy as jnp
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
from tests.nights import long


def scanned(params, x):
    """Heads, and units inside each, in layers of a scan on a residual stream."""

    def layer(stream, own):
        heads = jnp.tanh(jnp.einsum("btr,rhu->bthu", stream, own["up_kernel"]))
        return stream + jnp.einsum("bthu,hur->btr", heads, own["down_kernel"]), None

    stream = jax.lax.scan(layer, x @ params["in_kernel"], params["layers"])[0]
    return stream.mean(1) @ params["out_kernel"]


# recurrent with fused gates, and layers stacked by a scan; more are in tests/deepalign
SHAPES = ("lstm_fused", "scanned")
# that as a whole network
LONG = "vit_fused_scan"


def case(name):
    """A function, the shapes of its parameters, and inputs."""
    if name != "scanned":
        return *traced(name)[::-1], CASES[name].example
    layers = {"up_kernel": (2, 7, 3, 5), "down_kernel": (2, 3, 5, 7)}
    shapes = {"in_kernel": (4, 7), "layers": layers, "out_kernel": (7, 3)}
    struct = functools.partial(jax.ShapeDtypeStruct, dtype=np.float32)
    return scanned, jax.tree.map(struct, shapes, is_leaf=lambda x: isinstance(x, tuple)), drawn.normal(3, 6, 4, seed=7)


@functools.cache
def planted(name):
    """A network, its parameters, a relabelled copy, and what a method should find."""
    apply, shapes, example = case(name)
    params = drawn.weights(shapes)
    net = network(apply, params, example)
    hidden = drawn.perms(net.spec, 1)
    return net, params, permute(net.spec, params, hidden), inverse(net.spec, hidden)


@pytest.mark.parametrize("name, rounds", [("lstm_fused", 2), ("scanned", 1), *long((LONG, 1))])
def test_features_find_what_is_planted_and_weight_matching_keeps_it(name, rounds):
    net, a, b, expected = planted(name)
    spec = net.spec

    start = feature_matching(spec, a, b, key=jax.random.key(2), channels=8, rounds=rounds)
    found, kept = start.perms, weight_matching(spec, a, b, key=jax.random.key(3), start=start, sweeps=2).perms
    chex.assert_trees_all_equal(found, expected)
    chex.assert_trees_all_equal(kept, expected)


@pytest.mark.parametrize(
    "name, method",
    [("vgg_batch", straight_through), ("lstm_fused", sinkhorn_rebasin), ("scanned", refine), *long((LONG, refine))],
)
def test_optimisers_keep_a_perfect_start(name, method):
    """Aligned with what is planted, the midpoint is the network itself: it reproduces its own outputs."""
    net, a, b, expected = planted(name)
    inputs = case(name)[-1]
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


@pytest.mark.parametrize("name", ["vgg_batch", *SHAPES, *long(LONG)])
def test_activations_find_what_is_planted(name):
    net, a, b, expected = planted(name)
    inputs = drawn.normal(32, *case(name)[-1].shape[1:], seed=4)
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
