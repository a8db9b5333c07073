"""Elements of every kind that were planted are found: signs, scales, rotations and maps."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import MATCHED, neutral, polar
from dwalign.matching import (
    activation_matching,
    activation_matching_correlation,
    find_method,
    refine,
    search,
    search_in_programs,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.matching.latents import begin
from dwalign.matching.search_in_programs import search_in_program
from dwalign.networks import build
from dwalign.program import REGRESSION, Data, fold_norms, network
from dwalign.symmetry import Alignment, distance, interpolate, permute, random_perms
from tests import drawn
from tests.compiled import compilations
from tests.nights import long

X = drawn.normal(3, 5)
IMAGES = dict(shape=[8, 8, 3])
TRANSFORMER = dict(kind="transformer", vocabulary=20, length=8, dim=16, depth=1, heads=4, width=12)
VIT = IMAGES | dict(kind="vit", dim=16, depth=1, heads=4, width=12, outputs=3)
BUILT = {
    "relu": dict(kind="mlp", inputs=6, widths=[12, 10], outputs=3),
    "sine": dict(kind="siren", inputs=2, widths=[12, 10], outputs=3),
    "cnn": IMAGES | dict(kind="cnn", channels=[8, 10], widths=[12], outputs=3),
    "vgg_batch": IMAGES | dict(kind="vgg", stages=[[8], [10]], widths=[], outputs=3, norm="batch"),
    "gru": dict(kind="recurrent", cell="gru"),
    "lstm": dict(kind="recurrent", cell="lstm"),
    "vit": VIT,
    "vit_folded": VIT,
    "transformer": TRANSFORMER,
    "transformer_folded": TRANSFORMER,
    "rms": TRANSFORMER | dict(norm="rms", gated=True),
    "rms_grouped": TRANSFORMER | dict(norm="rms", gated=True, kv_heads=2),
    "rms_grouped_folded": TRANSFORMER | dict(norm="rms", gated=True, kv_heads=2),
    "rms_tied": TRANSFORMER | dict(norm="rms", tied=True),
}


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)


def leaky(p, x):
    return jax.nn.leaky_relu(x @ p["up"] + p["bias"][None]) @ p["down"]


def tanh(p, x):
    return jnp.tanh(x @ p["up"] + p["bias"][None]) @ p["down"]


def gated(p, x):
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def bilinear(p, x):
    """Signs of two directions."""
    return ((x @ p["left"]) * (x @ p["right"])) @ p["down"]


def without_gains(p, x):
    h = x @ p["in"]
    h = h + jax.nn.gelu(norm(h) @ p["up"]) @ p["down"]
    return norm(h) @ p["out"]


def tied(p, tokens):
    return norm(p["embedding"][tokens]) @ p["embedding"].T


FROZEN = drawn.normal(5, 6, seed=9)


def low_rank(p, x):
    return jax.nn.gelu(x @ p["base"] + x @ p["a"] @ p["b"]) @ p["out"]


def adapter(p, x):
    """What is trained beside a frozen matrix, a constant of the program, which leaves the order of units no choice."""
    return jax.nn.gelu(x @ (FROZEN + p["a"] @ p["b"])) @ p["out"]


LAYER = dict(up=(5, 8), bias=(8,), down=(8, 3))
WRITTEN = {
    "leaky": (leaky, LAYER, X),
    "tanh": (tanh, LAYER, X),
    "gated": (gated, dict(gate=(5, 8), up=(5, 8), down=(8, 3)), X),
    "bilinear": (bilinear, dict(left=(5, 8), right=(5, 8), down=(8, 3)), X),
    "without_gains": (without_gains, {"in": (5, 8), "up": (8, 12), "down": (12, 8), "out": (8, 3)}, X),
    "tied": (tied, dict(embedding=(9, 6)), np.array([[0, 3, 8], [1, 7, 2]])),
    "low_rank": (low_rank, dict(base=(5, 6), a=(5, 3), b=(3, 6), out=(6, 2)), X),
    "adapter": (adapter, dict(a=(5, 3), b=(3, 6), out=(6, 2)), X),
}
KINDS = {
    "relu": {"scale"},
    "sine": {"sign"},
    "vgg_batch": {"monomial"},
    "transformer_folded": {"orthogonal", "linear", "permutation"},
    "rms_grouped": {"monomial", "linear", "permutation"},
    "low_rank": {"linear", "permutation"},
    "adapter": {"linear"},
    "tied": {"orthogonal"},
}


def weighed(name, seed=0):
    """A program, an example for it, and weights."""
    if name in WRITTEN:
        apply, shapes, example = WRITTEN[name]
        return apply, example, drawn.named(seed, **shapes)
    plain = build(BUILT[name])
    params = drawn.weights(plain.params, seed)
    if name.endswith("folded"):
        plain, params = fold_norms(plain, params)
    return plain.apply, plain.example, params


@functools.cache
def declared(name):
    """A network of which all is free that is, and weights for it."""
    apply, example, params = weighed(name)
    return network(apply, params, example, kinds="all"), params


def planted(name, seed):
    """The same function: an element of the whole group has acted on a copy."""
    net, a = declared(name)
    return net, a, permute(net.spec, a, random_perms(net.spec, np.random.default_rng(seed)))


def assert_found(net, a, b, found):
    aligned = permute(net.spec, b, found.perms)
    assert distance(net.spec, a, aligned) <= 1e-5 * distance(net.spec, a, b)
    return aligned


@pytest.mark.parametrize("name", [*WRITTEN, *BUILT])
def test_weight_matching_finds_what_is_planted(name):
    for seed in range(2):
        net, a, b = planted(name, seed)
        assert set(net.spec.kinds.values()) >= KINDS.get(name, set())
        aligned = assert_found(net, a, b, weight_matching(net, a, b))
    expected = np.asarray(jax.jit(net.apply)(a, net.example))
    np.testing.assert_allclose(jax.jit(net.apply)(aligned, net.example), expected, atol=1e-4 * np.abs(expected).max())


# one of each kind: scales, signs, both, rotations, maps
SOME = ["leaky", "tanh", "gated", "without_gains", "low_rank"]
FOLDED = ["transformer_folded", "rms_grouped_folded"]
BY_ACTIVATIONS = [activation_matching, activation_matching_correlation]


@functools.cache
def answers(name, examples=64):
    """Inputs, and what the network itself says about them."""
    net, a = declared(name)
    shape = net.example.shape[1:]
    if np.issubdtype(net.example.dtype, np.integer):
        inputs = np.random.default_rng(3).integers(0, BUILT[name]["vocabulary"], (examples, *shape))
    else:
        inputs = drawn.normal(examples, *shape, seed=3)
    return Data(inputs, np.asarray(jax.jit(net.apply)(a, inputs)))


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *itertools.product(SOME, BY_ACTIVATIONS),
        *zip(FOLDED, BY_ACTIVATIONS, strict=True),
        *long(*zip(FOLDED, reversed(BY_ACTIVATIONS), strict=True)),
    ],
    ids=str,
)
def test_activations_tell_elements_of_every_kind(name, method):
    """In a stream without a mean they cannot see one direction, which no reader needs: what they find still merges."""
    net, a, b = planted(name, 0)
    data = answers(name)
    merged = interpolate(net.spec, a, permute(net.spec, b, method(net, a, b, data=data).perms))
    largest = np.abs(data.labels).max()
    np.testing.assert_allclose(jax.jit(net.apply)(merged, data.inputs), data.labels, atol=1e-3 * largest)
    unaligned = jax.jit(net.apply)(interpolate(net.spec, a, b), data.inputs)
    assert np.abs(unaligned - data.labels).max() > 0.1 * largest


@pytest.mark.parametrize(
    ("name", "method"),
    # both have the same latents
    [
        *zip(
            SOME,
            [sinkhorn_rebasin.using(iterations=2), refine.using(steps=2)] * 2 + [refine.using(steps=2)],
            strict=True,
        ),
        ("tanh", straight_through.using(iterations=2)),
    ],
    ids=str,
)
def test_methods_that_descend_keep_a_perfect_start(name, method):
    net, a, b = planted(name, 0)
    found = weight_matching(net, a, b)
    kept = method(net, a, b, data=answers(name), task=REGRESSION, start=found._replace(scores=None))
    assert_found(net, a, b, kept)


def test_methods_that_descend_begin_at_the_signs_of_each_pair():
    """Where units have partners those of the start count; a unit of the other sign has the other signs."""
    net, a, b = planted("tanh", 0)
    (group,) = net.spec.sizes
    found = weight_matching(net, a, b)
    flip = neutral(net.spec)
    flip[group].sign[3] = -1
    begun = [
        begin(net.spec, a, permute(net.spec, b, g), Alignment(found.perms), {group: np.zeros((8, 8), np.float32)})[
            group
        ]
        for g in (neutral(net.spec), flip)
    ]
    one, two = (np.asarray(latent.signs)[..., 0] for latent in begun)
    partner = np.asarray(found.perms[group].perm)
    np.testing.assert_array_equal(np.sign(one[range(8), partner]), found.perms[group].sign[:, 0])
    apart = partner != 3
    np.testing.assert_array_equal(one[apart, 3], -two[apart, 3])
    np.testing.assert_array_equal(np.delete(one, 3, 1), np.delete(two, 3, 1))
    assert np.abs(np.tanh(one)).min() > 0.9 and len(np.unique(np.sign(one))) == 2


@pytest.fixture(params=[False, True], ids=["CPU", "accelerator"])
def program(request, monkeypatch):
    """Weight matching in programs, as CPUs or as accelerators have it."""
    if request.param:
        monkeypatch.setattr(search_in_programs, "_searched", search_in_programs._searched_on_device)


@pytest.mark.parametrize("name", ["tanh", "gated", "without_gains"])
def test_traced_networks_are_matched_as_others_are(name, program):
    net, a, b = planted(name, 0)
    traced = jax.jit(lambda a, b: weight_matching(net.spec, a, b))(a, b)
    assert_found(net, a, b, traced)
    eager = weight_matching(net, a, b)
    # the element from b to a is one: nothing of it depends on where it is computed
    for one, other in zip(jax.tree.leaves(traced.perms), jax.tree.leaves(eager.perms), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_pairs_beside_one_another_on_accelerators_have_no_say(monkeypatch):
    """A pair that is done waits for the others as it is, though it could go on a little."""
    spec, shapes = declared("without_gains")[0].spec.with_kinds(*MATCHED), WRITTEN["without_gains"][1]
    on_device, given = search_in_programs._searched_on_device, []

    def searched(*arrays, program):
        given.append((arrays, program))
        return on_device(*arrays, program=program)

    monkeypatch.setattr(search_in_programs, "_searched", searched)
    monkeypatch.setattr(search, "LEAST", 0.2)
    pairs = [[jax.tree.map(jnp.asarray, drawn.named(2 * seed + k, **shapes)) for k in range(2)] for seed in range(4)]
    alone = [search_in_program(spec, *pair, key=None, begun=None, restarts=1, sweeps=100) for pair in pairs]
    sweeps = {int(np.argmax(history == history[-1])) for _, history in alone}
    assert len(sweeps) > 1
    stacked = [jnp.stack(arrays) for arrays in zip(*(arrays for arrays, _ in given), strict=True)]
    together = on_device(*stacked, program=given[0][1])
    for found, expected in zip(together, zip(*map(jax.tree.leaves, alone), strict=True), strict=True):
        np.testing.assert_allclose(found, np.stack(expected), rtol=1e-4, atol=1e-4)


def test_signs_are_matched_in_double_precision(program):
    net, *networks = planted("tanh", 0)
    with jax.enable_x64(True):
        a, b = jax.tree.map(np.float64, networks)
        found = jax.jit(lambda a, b: weight_matching(net.spec, a, b))(a, b)
        assert found.history.dtype == np.float64
    assert_found(net, a, b, found)


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_maps_settle_before_units_are_assigned(run, program):
    """Of maps that all are far off one turn each is not enough, and units would be assigned by them."""
    net, a, b = planted("rms_grouped_folded", 0)
    spec = net.spec.with_kinds(*MATCHED)
    b = permute(net.spec, b, weight_matching(net, a, b).perms)
    maps = {g: one for g, one in neutral(spec).items() if spec.kinds[g] == "orthogonal"}
    b = permute(spec, b, {g: polar(one + drawn.normal(*one.shape, seed=1)) for g, one in maps.items()})
    found = run(lambda a, b: weight_matching(spec, a, b, start=Alignment(neutral(spec)), sweeps=1))(a, b)
    assert distance(spec, a, permute(spec, b, found.perms)) <= 0.01 * distance(spec, a, b)


def test_several_starts_find_at_least_what_one_finds():
    net, a, _ = planted("without_gains", 0)
    b = drawn.named(seed=5, **WRITTEN["without_gains"][1])
    best = [weight_matching(net, a, b, restarts=n).history[-1] for n in (1, 4)]
    assert best[0] <= best[1] and np.isfinite(best[1])


def test_a_second_pair_compiles_nothing():
    net, a, b = planted("gated", 0)
    again = planted("gated", 1)
    match = lambda a, b: refine(net, a, b, data=answers("gated"), task=REGRESSION, steps=2)
    match(a, b)
    with compilations() as compiled:
        match(a, again[2])
    assert not compiled


def test_orders_are_elements_of_every_kind():
    """A method that finds them alone gives what can be composed with signs."""
    net = build(BUILT["sine"])
    spec = network(net.apply, net.params, net.example, kinds="all").spec
    a, b = (drawn.weights(net.params, seed) for seed in (0, 1))
    assert "sign" in spec.kinds.values()
    found = find_method("naive")(spec, a, b).perms
    np.testing.assert_allclose(distance(spec, a, permute(spec, b, found)), distance(spec, a, b), rtol=1e-5)


def test_chains_are_matched_in_one_gauge():
    net, a, b = planted("without_gains", 1)
    method = find_method("weight_matching@2+sinkhorn@2")
    assert_found(net, a, b, method(net, a, b, data=answers("without_gains"), task=REGRESSION))
