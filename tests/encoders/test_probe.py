"""The probe encoder: starts as activation matching, stays equivariant, finite for dead units, exact untrained."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian
from dwalign.encoders.probe import ProbeEncoder
from dwalign.matching import activation_matching, activation_matching_correlation, matched
from dwalign.networks import mlp
from dwalign.program import Data, Units, make_capture, network, together
from dwalign.symmetry import Axes, PermutationSpec, SpecError, permute, random_perms
from tests import drawn
from tests.matching.test_kinds import norm

NET = mlp(9, (8, 7), 3)
PARAMS = drawn.started(NET.init)
INPUTS = drawn.normal(12, 9, seed=10)


# positions [m, 2] between examples and units, and units batched over heads
HEADS = PermutationSpec(
    {"in": Axes(None, "h0", "h1"), "out": Axes("h0", "h1", None)},
    {"h0": 3, "h1": 4},
    batch={"h1": ("h0",)},
)


@make_capture
def capture_heads(params, inputs):
    pre = jnp.einsum("mpi,ihu->mphu", inputs, params["in"])
    post = jnp.tanh(pre) * jnp.tanh(jnp.sum(pre**2, -1, keepdims=True))
    return jnp.einsum("mphu,huo->mo", post, params["out"])


@functools.cache
def case(name):
    """spec, params, encoder, variables away from the start."""
    if name == "mlp":
        spec, params, inputs, capture = NET.spec, PARAMS, INPUTS, NET.capture
    else:
        spec, params, capture = HEADS, drawn.named(**{"in": (5, 3, 4), "out": (3, 4, 2)}), capture_heads
        inputs = drawn.normal(6, 2, 5, seed=2)
    encoder = ProbeEncoder(spec, capture=capture, inputs=inputs, features=8, rounds=1)
    # numpy, because a compiled init takes longer than the test
    rng = np.random.default_rng(1)
    fill = lambda x: 0.3 * rng.standard_normal(x.shape, np.float32)
    return spec, params, encoder, jax.tree.map(fill, jax.eval_shape(encoder.init, jax.random.key(1), params))


def as_one_of_two(function):
    stacked = jax.jit(jax.vmap(function))
    return lambda v: jax.tree.map(lambda x: np.asarray(x)[1], stacked(jax.tree.map(lambda x: np.stack([x + 1, x]), v)))


@pytest.mark.parametrize(
    "name, wrap", [("mlp", as_one_of_two), ("heads", jax.jit), ("mlp", jax.jit)], ids=["vmap", "heads", "jit"]
)
def test_equivariance(name, wrap):
    spec, params, encoder, variables = case(name)
    perms = drawn.perms(spec)
    tree = PermutationSpec({g: Axes(*spec.batch.get(g, ()), g, None) for g in spec.sizes}, spec.sizes, batch=spec.batch)
    encode = wrap(lambda v: encoder.apply(variables, v))
    features = jax.tree.map(np.asarray, encode(params))
    assert features.keys() == spec.sizes.keys()
    chex.assert_trees_all_close(encode(permute(spec, params, perms)), permute(tree, features, perms), atol=1e-4)


def grouped(p, x):
    """Queries that share a basis with their key and value, behind a stream with a gain."""
    h = norm(x @ p["in"])
    one = h * p["gain"][None]
    keys, values = (jnp.einsum("mi,ihd->mhd", one, p[name]) for name in "kv")
    seen = jax.nn.sigmoid(jnp.einsum("mi,ihqd,mhd->mhq", one, p["q"], keys))
    return jnp.einsum("mhq,mhd,hqdo->mo", seen, values, p["o"]) + h @ p["out"]


def test_features_flip_and_turn_with_their_units():
    """Signs of a stream that differ from place to place, and bases that queries share."""
    shapes = {"in": (5, 6), "gain": (6,), "k": (6, 2, 3), "v": (6, 2, 3), "q": (6, 2, 3, 3), "o": (2, 3, 3, 2)}
    params, inputs = drawn.named(**shapes, out=(6, 2)), drawn.normal(7, 5, seed=2)
    net = matched(network(grouped, params, inputs, kinds="all"))
    spec, batch = net.spec, {g: net.spec.batch.get(g, ()) for g in net.spec.sizes}
    kinds = {(spec.kinds[g], len(batch[g])) for g in spec.sizes}
    assert kinds == {("sign", 0), ("permutation", 0), ("permutation", 1), ("orthogonal", 1)}
    encoder = ProbeEncoder(spec, capture=net.capture, inputs=inputs, features=4, rounds=1)
    variables = drawn.started(encoder.init, params)
    element = random_perms(spec, np.random.default_rng(1))
    encode = jax.jit(lambda p: encoder.apply(variables, p))
    before, after = (jax.tree.map(np.asarray, encode(p)) for p in (params, permute(spec, params, element)))
    for g, x in before.items():
        own = element[g]
        if spec.kinds[g] == "orthogonal":
            moved = np.einsum("...ij,...jd->...id", own, x)
        elif spec.kinds[g] == "sign":
            odd = np.array(spec.characters[g], bool)
            moved = x[own.perm] * np.where(odd[None], own.sign[:, None], 1).prod(-1)[..., None]
        else:
            moved = np.take_along_axis(x, own[..., None], -2)
        for h in batch[g]:
            moved = moved[element[h]]
        np.testing.assert_allclose(after[g], moved, atol=1e-5 * np.abs(x).max(), err_msg=g)


@pytest.mark.parametrize("centred", [False, True], ids=["inner products", "correlations"])
@pytest.mark.parametrize("name", ["mlp", "heads"])
def test_simulates_activation_matching(name, centred):
    spec, a, encoder, _ = case(name)
    b = jax.tree.map(lambda x: x + drawn.normal(*x.shape, seed=x.size), a)
    encoder = encoder.clone(kinds=("post",), rounds=0, learned=False, centred=centred)
    assert not jax.eval_shape(encoder.init, jax.random.key(0), a)
    both = jax.jit(lambda p: (encoder.apply({}, p), encoder.capture(p, encoder.inputs)[1].post))
    (x, u), (y, v) = (jax.tree.map(np.asarray, both(p)) for p in (a, b))
    assert x.keys() == spec.sizes.keys()
    for g, n in spec.sizes.items():
        scores = np.einsum("...id,...jd->...ij", x[g], y[g])
        # the scores from their definition: [examples and positions, batch, n]
        one, two = (part[g].reshape(-1, *spec.batch_shape(g), n) for part in (u, v))
        if centred:
            one, two = (z - z.mean(0, keepdims=True) for z in (one, two))
            one, two = (z / np.sqrt((z**2).mean(0, keepdims=True) + 1e-8) for z in (one, two))
        expected = np.einsum("p...i,p...j->...ij", one, two) / len(one)
        chex.assert_trees_all_close(scores, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("correlation", [False, True])
def test_agrees_with_the_method_of_that_name(correlation):
    encoder = ProbeEncoder(
        NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("post",), rounds=0, learned=False, centred=correlation
    )
    method = activation_matching_correlation if correlation else activation_matching

    @jax.jit
    def both(a, b):
        return encoder.apply({}, a), encoder.apply({}, b), method(NET, a, b, data=Data(INPUTS)).scores

    x, y, scores = jax.tree.map(np.asarray, both(PARAMS, drawn.started(NET.init, seed=1)))
    chex.assert_trees_all_close({g: x[g] @ y[g].T for g in NET.spec.sizes}, scores, atol=1e-4)


def test_the_learned_correction_starts_at_zero_and_learns_at_once():
    full = ProbeEncoder(NET.spec, capture=NET.capture, inputs=INPUTS, features=8, rounds=1)
    names = ("probes", "readout", "weights")

    @jax.jit
    def start(key):
        variables = full.init(key, PARAMS)
        total = lambda v: sum(jnp.sum(x[0] * x[1]) for x in full.apply(v, PARAMS).values())
        probes = {"params": {k: variables["params"][k] for k in names}}
        plain = full.clone(rounds=0).apply(probes, PARAMS)
        return variables["params"]["probes"], full.apply(variables, PARAMS), plain, jax.grad(total)(variables)["params"]

    # this generator compiles in a tenth of the default one's time
    probes, features, plain, grads = start(jax.random.key(1, impl="unsafe_rbg"))
    chex.assert_trees_all_equal(probes, INPUTS)
    chex.assert_trees_all_close(features, plain, atol=1e-6)
    for gradient in (*(grads[k] for k in names), *(grads[f"out_{g}"]["kernel"] for g in NET.spec.sizes)):
        assert np.abs(gradient).max() > 0


def test_sensitivities_are_gradients_of_the_read_out():
    encoder = ProbeEncoder(
        NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("sensitivity",), rounds=0, centred=False
    )
    shapes = jax.eval_shape(encoder.init, jax.random.key(1), PARAMS)["params"]
    readout = drawn.normal(*shapes["readout"].shape, seed=3)
    variables = {"params": {"probes": INPUTS, "readout": readout, "weights": np.ones(1, np.float32)}}
    assert variables["params"].keys() == shapes.keys()
    features, units = jax.jit(lambda v, p: (encoder.apply(v, p), NET.capture(p, INPUTS)[1]))(variables, PARAMS)
    last = PARAMS["params"]["dense_2"]["kernel"]
    expected = (np.asarray(units.pre["h1"])[:, 0] > 0) * (readout @ last.T)
    chex.assert_trees_all_close(features["h1"], expected.T / np.float32(np.sqrt(len(INPUTS))), atol=1e-5)


def test_dead_units_have_finite_gradients():
    _, params, encoder, variables = case("mlp")
    dead = jax.tree.map(np.copy, params)
    dead["params"]["dense_1"]["kernel"][:, :2] = 0
    dead["params"]["dense_1"]["bias"][:] = 0
    total = lambda v, p: sum(jnp.sum(jnp.tanh(x)) for x in encoder.apply(v, p).values())
    slopes = jax.jit(jax.value_and_grad(total, (0, 1)))
    for one in (dead, jax.tree.map(np.zeros_like, params)):
        value, grads = slopes(variables, one)
        chex.assert_tree_all_finite((value, grads))


def test_untrained_features_recover_a_planted_permutation():
    net = mlp(64, (32, 32, 32), 10)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = [drawn.weights(shapes, seed) for seed in range(100)]
    perms = [drawn.perms(net.spec, seed) for seed in range(100)]
    pairs = [(own, permute(net.spec, own, g)) for own, g in zip(params, perms, strict=True)]

    def encode(key, inputs, own, moved):
        encoder = ProbeEncoder(net.spec, capture=net.capture, inputs=inputs, features=8, rounds=1)
        variables = together(encoder.init)(key, own)
        pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), moved, own)
        return jax.vmap(encoder.apply, in_axes=(None, 0))(variables, pair)

    keys = jax.random.split(jax.random.key(3, impl="unsafe_rbg"), 100)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    features = jax.tree.map(np.asarray, jax.jit(jax.vmap(encode))(keys, drawn.normal(100, 16, 64), *stacked))
    planted = jax.tree.map(lambda *leaves: np.stack(leaves), *perms)
    for group, x in features.items():
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        found = hungarian(x[:, 0] @ np.swapaxes(x[:, 1], -1, -2))
        assert np.array_equal(found, planted[group]), group


def test_errors_say_what_is_missing():
    with pytest.raises(ValueError, match="kinds must hold some of"):
        ProbeEncoder(NET.spec, capture=NET.capture, inputs=INPUTS, kinds=("posts",)).init(jax.random.key(0), PARAMS)
    nothing = lambda p, x, readout=None: (x, Units({}, {}))
    with pytest.raises(SpecError, match=r"'h0' units \[m, ..., 8,\], found only"):
        encoder = ProbeEncoder(NET.spec, capture=nothing, inputs=INPUTS, kinds=("post",))
        encoder.init(jax.random.key(0), PARAMS)
