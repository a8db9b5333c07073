"""The laws of Deep-Align where more than the order of units is free: signs, scales, rotations and maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import (
    Aligner,
    AlignerConfig,
    DeepAlign,
    deep_align,
    losses,
    make_model,
    make_step,
)
from dwalign.encoders import GraphEncoder, ProbeEncoder
from dwalign.matching import gauged, matched, weight_matching
from dwalign.matching.latents import STIFF, harden, relaxed, soften
from dwalign.program import network
from dwalign.symmetry import Axes, PermutationSpec, SpecError, distance, inverse, permute, random_perms, take_networks
from tests import drawn
from tests.deepalign.untrained import stack, untrained
from tests.matching.test_kinds import declared, norm, weighed
from tests.nights import long

# signs of a tanh layer and of sine layers, scales, both, rotations between heads, a GRU; signs of two directions
NAMES = (
    *(f"graph {name}" for name in ("tanh", "sine", "relu", "gated", "gru")),
    *(f"probe {name}" for name in ("sine", "without_gains")),
    *long("graph bilinear", "graph vit_folded"),
)


@functools.cache
def case(name):
    """The network, two of its kind, and an aligner of which no parameter has the value that it starts with."""
    encoder, name = name.split()
    net, a = declared(name)
    *_, b = weighed(name, 1)
    spec = matched(net).spec
    if encoder == "graph":
        made = GraphEncoder(spec, features=16, channels=16, rounds=1)
    else:
        inputs = drawn.normal(12, *net.example.shape[1:], seed=2)
        made = ProbeEncoder(spec, capture=net.capture, inputs=inputs, features=8, rounds=1)
    model = DeepAlign(spec, made, updates=1)
    return net, a, b, Aligner(model, untrained(model, a))


def moved(name, params, seed):
    net = case(name)[0]
    element = random_perms(net.spec, np.random.default_rng(seed))
    return element, permute(net.spec, params, element)


def solve(name, a, b):
    """The alignment, and b as it puts it."""
    net, _, _, aligner = case(name)
    found = deep_align(net, a, b, aligner=aligner)
    return found.perms, permute(net.spec, b, found.perms)


def assert_close(spec, one, two, than):
    assert distance(spec, one, two) <= 1e-3 * distance(spec, one, than)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_planted_is_found_untrained(name):
    net, a, *_ = case(name)
    for seed in range(3):
        b = moved(name, a, seed)[1]
        assert_close(net.spec, a, solve(name, a, b)[1], than=b)


@pytest.mark.parametrize("name", NAMES)
def test_equivariance_and_swap(name):
    net, a, b, _ = case(name)
    element, aligned = solve(name, a, b)
    g, ga = moved(name, a, 1)
    _, hb = moved(name, b, 2)
    assert_close(net.spec, permute(net.spec, aligned, g), solve(name, ga, hb)[1], than=hb)
    swapped = solve(name, b, a)[1]
    assert_close(net.spec, permute(net.spec, a, inverse(net.spec, element)), swapped, than=b)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(element))


def rotated_and_flipped(p, x):
    """A space that may be rotated, and units that may be flipped."""
    h = x @ p["in"]
    return norm(h + jnp.tanh(norm(h) @ p["up"] + p["bias"][None]) @ p["down"]) @ p["out"]


def test_losses_go_down_along_the_gradients_of_all_parameters():
    shapes, inputs = {"in": (5, 6), "up": (6, 8), "bias": (8,), "down": (8, 6), "out": (6, 3)}, drawn.normal(4, 5)
    a, b = (drawn.named(seed, **shapes) for seed in range(2))
    net = network(rotated_and_flipped, a, inputs, kinds="all")
    assert sorted(net.spec.kinds.values()) == ["orthogonal", "sign"]
    model = make_model(net, AlignerConfig("graph", channels=4, depth=1, features=6, updates=0, probes=4), inputs)
    hidden = random_perms(net.spec, np.random.default_rng(0))
    variables = untrained(model, a)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(variables):
        apply = lambda method, *args: model.apply(variables, *args, method=method)
        features = jax.vmap(lambda params: apply("encode", params))(stack(a, b, permute(net.spec, a, hidden)))
        one, two, moved = (take_networks(features, k) for k in range(3))
        known = losses.supervised(net.spec, apply("product", one, moved), inverse(net.spec, hidden))
        found = apply("compare", a, one, b, two)
        hard = harden(net.spec, found)
        apart = [losses.alignment(net.spec, a, b, x) for x in (soften(net.spec, found), relaxed(net.spec, hard), hard)]
        return known + apart[0], apart[1:]

    (value, (apart, same)), slopes = loss(variables)
    np.testing.assert_allclose(apart, same, rtol=1e-4)
    slopes = jax.tree.map(np.asarray, slopes)
    sizes = {jax.tree_util.keystr(path): np.abs(slope).max() for path, slope in jax.tree.leaves_with_path(slopes)}
    assert not {name: size for name, size in sizes.items() if not 0 < size < np.inf}
    square = sum(np.sum(slope**2) for slope in jax.tree.leaves(slopes))
    (after, _), _ = loss(jax.tree.map(lambda x, slope: x - 1e-3 * slope / square, variables, slopes))
    np.testing.assert_allclose(after - value, -1e-3, rtol=0.2)


def test_layers_of_one_role_and_other_signs_share_what_they_can():
    def apply(p, x):
        for k, activation in enumerate([jnp.tanh, jnp.tanh, jax.nn.relu, jax.nn.relu]):
            x = activation(x @ p[f"layer{k}"]["kernel"])
        return x @ p["layer4"]["kernel"]

    params = {f"layer{k}": drawn.named(kernel=shape) for k, shape in enumerate([(4, 5), *[(5, 5)] * 3, (5, 2)])}
    net = matched(network(apply, params, drawn.normal(3, 4), kinds="all"))
    assert list(net.spec.kinds.values()) == ["sign", "sign", "permutation", "permutation"]
    encoder = GraphEncoder(net.spec, features=4, channels=4, rounds=1, shared=True)
    found = jax.eval_shape(encoder.init_with_output, jax.random.key(0), params)[0]
    assert [x.shape for x in found.values()] == [(5, 1, 4), (5, 1, 4), (5, 4), (5, 4)]


@pytest.mark.parametrize("name", ["relu", "gated", "low_rank"])
def test_networks_in_their_gauge(name):
    net, a = declared(name)
    zoo = stack(a, permute(net.spec, a, random_perms(net.spec, np.random.default_rng(0))))
    reduced, networks = gauged(net, zoo)
    with pytest.raises(SpecError, match="in their gauge"):
        make_step(None, net, zoo, None)
    assert set(reduced.spec.kinds.values()) <= {"permutation", "sign", "orthogonal"} and gauged(reduced, zoo)[1] is zoo
    for k in range(2):
        found = jax.jit(net.apply)(take_networks(networks, k), net.example)
        np.testing.assert_allclose(found, jax.jit(net.apply)(a, net.example), rtol=1e-3, atol=1e-4)
    order = weight_matching(reduced, *(take_networks(networks, k) for k in range(2))).perms
    assert_close(
        net.spec, *(permute(reduced.spec, take_networks(networks, k), one) for k, one in enumerate(({}, order))), than=a
    )


@pytest.mark.parametrize("size", [3, 16, 100])
def test_soft_maps_stay_orthogonal_however_far_steps_in_one_direction_took_them(size):
    spec = PermutationSpec({"w": Axes(None, "h0")}, {"h0": size}, kinds={"h0": "orthogonal"})
    far = np.linalg.qr(drawn.normal(size, size))[0] @ (np.eye(size) + 0.05) * STIFF * size**0.5
    soft = soften(spec, {"h0": jnp.asarray(far, jnp.float32)})["h0"]
    np.testing.assert_allclose(soft @ soft.T, np.eye(size), atol=1e-4)
