"""The door for pipelines: results, transformations, and errors that say what is wrong."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign import apply
from dwalign.networks import mlp, vgg
from dwalign.program import CertificateError, Data, Network
from dwalign.symmetry import Axes, PermutationSpec, SpecError
from tests import drawn
from tests.compiled import compilations

NET = mlp(6, (7, 5), 3)
DATA = Data(drawn.normal(40, 6, seed=9), np.arange(40) % 3)


@pytest.fixture(scope="module")
def pair():
    a = drawn.weights(NET.params)
    return a, apply.permute(NET.spec, a, drawn.perms(NET.spec, 1))


def stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def at(tree, k):
    return jax.tree.map(lambda leaf: leaf[k], tree)


@pytest.mark.parametrize("method", ["weight_matching", "activation_matching_correlation", "straight_through@3"])
def test_align_recovers_a_copy(pair, method):
    found = apply.align(NET, *pair, method, data=DATA)
    assert float(apply.distance(NET.spec, *pair, perms=found.perms)) == 0.0
    assert float(apply.distance(NET.spec, *pair)) > 0.1


@pytest.mark.parametrize("around", [lambda f: f, jax.make_jaxpr], ids=["eager", "traced"])
def test_a_certificate_is_one_program(pair, around):
    """That of the function: nothing is drawn and no constant computed by programs of their own."""
    # equal to none of which this is known
    network = dataclasses.replace(NET, apply=lambda params, x: NET.apply(params, x))
    with compilations() as compiled:
        around(lambda a, b: apply.align(network, a, b).perms)(*pair)
    assert len(compiled) == 1


def test_merge_of_a_network_with_its_copy_is_the_network(pair):
    a, b = pair
    chex.assert_trees_all_close(apply.merge(NET.spec, a, b), a, atol=1e-6)
    chex.assert_trees_all_equal(apply.interpolate(NET.spec, a, b, 0.0), a)
    chex.assert_trees_all_equal(apply.interpolate(NET.spec, a, b, 1.0), b)


def test_distance_and_interpolation_have_slopes(pair):
    a, b = pair
    slope = jax.jit(jax.grad(lambda w: apply.distance(NET.spec, a, apply.interpolate(NET.spec, a, b, w))))(0.5)
    chex.assert_trees_all_close(slope, apply.distance(NET.spec, a, b), rtol=1e-4)


def test_distance_between_equal_networks_has_a_slope(pair):
    a, b = pair
    zero = jax.tree.map(jnp.zeros_like, a)
    many = jax.jit(jax.vmap(jax.grad(lambda x, y: apply.distance(NET.spec, x, y))))(stack(a, a), stack(a, b))
    chex.assert_trees_all_equal(at(many, 0), zero)
    length = apply.distance(NET.spec, a, b)
    chex.assert_trees_all_close(at(many, 1), jax.tree.map(lambda x, y: (x - y) / length, a, b), atol=1e-6)
    assert jnp.isnan(apply.distance(NET.spec, a, jax.tree.map(lambda x: x * jnp.nan, a)))


@pytest.mark.parametrize("name", ["align", "merge", "permute", "interpolate", "distance"])
def test_everything_works_under_vmap(pair, name):
    a, b = pair
    perms = drawn.perms(NET.spec, 3)
    run = {
        "align": lambda a, b, p: apply.align(NET.spec, a, b),
        "merge": lambda a, b, p: apply.merge(NET.spec, a, b),
        "permute": lambda a, b, p: apply.permute(NET.spec, b, p),
        "interpolate": lambda a, b, p: apply.interpolate(NET.spec, a, b, 0.3, perms=p),
        "distance": lambda a, b, p: apply.distance(NET.spec, a, b, perms=p),
    }[name]
    expected = run(a, b, perms), run(b, a, apply.identity(NET.spec))
    batch = stack(a, b), stack(b, a), stack(perms, apply.identity(NET.spec))
    chex.assert_trees_all_close(jax.jit(jax.vmap(run))(*batch), stack(*expected), atol=1e-5)


@pytest.mark.parametrize("method", ["naive", "weight_matching@2", "activation_matching_correlation", "naive+refine@2"])
def test_methods_align_under_vmap_and_where_the_key_alone_is_traced(pair, method):
    a, b = pair
    run = lambda a, b: apply.align(NET, a, b, method, data=DATA)
    eager = run(a, b)
    # traced are the networks, or the key alone
    both = jax.jit(lambda a, b, key: (jax.vmap(run)(a, b), apply.align(NET, *pair, method, key=key, data=DATA)))
    mapped, inside = both(stack(a, b), stack(b, a), jax.random.key(0))
    for found in (at(mapped, 0), inside):
        chex.assert_trees_all_equal(found.perms, eager.perms)
        chex.assert_trees_all_close(found[1:], eager[1:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_values_that_are_not_finite_are_named(pair, name, value):
    networks = dict(zip("ab", pair, strict=True))
    networks[name] = with_value(networks[name], value)
    for function in (apply.align, apply.merge):
        with pytest.raises(ValueError, match=name + r"\['params'\]\['dense_1'\]\['kernel'\] holds 1 NaN or inf"):
            function(NET.spec, **networks)


def test_values_are_looked_at_in_later_calls_too(pair):
    """Shapes and types are those of a call that passed, and nobody looks at these again."""
    a, b = pair
    method = "activation_matching"
    align = lambda a, b, data: apply.align(NET, a, b, method, data=data)
    align(a, b, DATA)
    with pytest.raises(ValueError, match=r"align: all weights must be finite, but a\['params'\]"):
        align(with_value(a, jnp.nan), b, DATA)
    with pytest.raises(ValueError, match=r"all weights must be finite, but b\['params'\]"):
        align(a, with_value(b, jnp.inf), DATA)
    inputs = DATA.inputs.copy()
    inputs[3, 2] = np.nan
    with pytest.raises(ValueError, match="data must be numbers, but inputs holds 1 NaN"):
        align(a, b, Data(inputs, DATA.labels))
    with pytest.raises(SpecError, match="a and b must hold the same kinds of numbers"):
        align(a, jax.tree.map(lambda leaf: leaf.astype(np.int8), b), DATA)
    with pytest.raises(ValueError, match="equally many examples"):
        align(a, b, Data(DATA.inputs, DATA.labels[1:]))
    wrong = Data(DATA.inputs, DATA.labels + 1)
    with pytest.raises(ValueError, match="labels must be classes of the outputs"):
        apply.find_method("refine").check_values(NET, a, wrong, apply.Task())


def with_value(params, value):
    layers = dict(params["params"])
    layers["dense_1"] = {**layers["dense_1"], "kernel": layers["dense_1"]["kernel"].copy()}
    layers["dense_1"]["kernel"][0, 0] = value
    return {"params": layers}


@pytest.mark.parametrize("other", [mlp(8, (7, 5), 3), mlp(1, (7, 5), 3), mlp(6, (7, 5), 4), mlp(6, (7, 5), 1)])
@pytest.mark.parametrize("function", [apply.align, apply.merge, apply.distance, apply.interpolate])
def test_other_architectures_are_named(pair, function, other):
    a, b = pair[0], drawn.weights(other.params)
    options = {"weight": 0.5} if function is apply.interpolate else {}
    for first, second in ((a, b), (b, a)):
        with pytest.raises(SpecError, match=r"a\['params'\].* is \(.* and b\['params'\].* is \(.*same inputs and out"):
            function(NET.spec, first, second, **options)
    for wrong in (mlp(6, (7, 5, 5), 3), mlp(6, (7, 6), 3)):
        with pytest.raises(SpecError, match=r"^b"):
            function(NET.spec, a, drawn.weights(wrong.params), **options)


def test_errors(pair):
    a = pair[0]
    with pytest.raises(SpecError, match=r"b\['params'\]\['dense_0'\]\['bias'\].*same widths"):
        apply.align(NET.spec, a, drawn.weights(mlp(6, (8, 5), 3).params))
    with pytest.raises(SpecError, match="dense_3"):
        apply.align(NET.spec, a, drawn.weights(mlp(6, (7, 5, 5), 3).params))


@pytest.mark.parametrize("options", [{}, {"data": DATA}, {"method": "activation_matching", "data": DATA}])
def test_a_spec_that_is_no_symmetry_is_refused(pair, options):
    axes = jax.tree.map(lambda one: Axes(None) if one == Axes("h0") else one, NET.spec.axes)
    wrong = Network(NET.apply, PermutationSpec(axes, NET.spec.sizes), NET.params, NET.example)
    with pytest.raises(CertificateError, match="group 'h0'"):
        apply.align(wrong, *pair, **options)
    apply.align(wrong, *pair, certified=False, **options)
    apply.align(NET, *pair, **options)


def test_a_network_is_certified_once(pair):
    traced = []

    def forward(params, x):
        traced.append(x.shape)
        return NET.apply(params, x)

    net = Network(forward, NET.spec, NET.params, NET.example)
    apply.align(net, *pair)
    before = len(traced)
    apply.align(net, *pair[::-1])
    apply.align(Network(forward, NET.spec, NET.params, NET.example), *pair)
    assert before and len(traced) == before


def test_merging_renews_statistics_or_says_that_they_must_be():
    spec = PermutationSpec({"w": Axes(None, "h"), "running_var": Axes("h")}, {"h": 3})
    a, b = ({"w": w * jnp.eye(3), "running_var": w * jnp.ones(3)} for w in (1.0, 2.0))
    with pytest.warns(UserWarning, match=r"the statistics \['running_var'\] are the average .*renew=lambda params"):
        merged = apply.merge(spec, a, b)
    assert (merged["running_var"] == 1.5).all()
    renewed = apply.merge(spec, a, b, renew=lambda params: params | {"running_var": params["w"].sum(0) ** 2})
    chex.assert_trees_all_equal(renewed, merged | {"running_var": jnp.full(3, 2.25)})


def test_merging_a_network_renews_its_statistics_on_data():
    net = vgg((4, 4, 1), [[6]], [], 3, norm="batch")
    a, b = (drawn.weights(net.params, seed) for seed in range(2))
    inputs = drawn.normal(20, 4, 4, 1, seed=2)
    merged = apply.merge(net, a, b, data=Data(inputs))
    kept = apply.merge(net, a, b, renew=lambda params: params)
    chex.assert_trees_all_equal(merged["params"], kept["params"])
    chex.assert_trees_all_close(net.apply(merged, inputs), net.respond(kept, inputs), atol=1e-4)
    assert float(jnp.abs(net.apply(kept, inputs) - net.apply(merged, inputs)).max()) > 1e-2


def test_only_weights_must_be_finite():
    spec = PermutationSpec({"w": Axes("h"), "mask": Axes(None), "key": Axes()}, {"h": 3})
    a = {"w": jnp.arange(3.0), "mask": jnp.array([0, -jnp.inf]), "key": jax.random.key(0)}
    apply.align(spec, a, a)
    with pytest.raises(ValueError, match=r"b\['mask'\] holds 1 NaN"):
        apply.align(spec, a, a | {"mask": jnp.array([0, jnp.nan])})


@pytest.mark.filterwarnings("error")
def test_halves_whose_sum_overflows_are_finite():
    spec = PermutationSpec({"w": Axes("h", None), "mask": Axes(None)}, {"h": 2})
    a = {"w": np.full((2, 3), 6e4, np.float16), "mask": np.array([-np.inf, np.inf], np.float32)}
    assert apply.align(spec, a, a).perms["h"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"b\['w'\] holds 1 NaN or inf"):
        apply.align(spec, a, a | {"w": np.array([[6e4, np.inf, 6e4], [1, 2, 3]], np.float16)})
