"""MLPs: the spec holds for every depth, captured units are what the network computes, configs rebuild it."""

import itertools
import json

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import build, mlp
from dwalign.symmetry import Axes, PermutationSpec, permute, random_perms


def declared(widths):
    groups = [None, *(f"h{k}" for k in range(len(widths))), None]
    axes = {
        f"dense_{k}": {"bias": Axes(after), "kernel": Axes(before, after)}
        for k, (before, after) in enumerate(itertools.pairwise(groups))
    }
    return PermutationSpec({"params": axes}, {f"h{k}": width for k, width in enumerate(widths)})


WIDTHS = [(4,), (7, 5), (6, 6, 6), (3, 4, 5, 6, 7)]


def randomised(net, key):
    """Parameters that are all different: an action that forgets the biases changes nothing where these are equal."""
    leaves, treedef = jax.tree.flatten(net.init(key))
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    return treedef.unflatten([w + jax.random.normal(k, w.shape) for k, w in zip(keys, leaves, strict=True)])


@pytest.mark.parametrize("widths", WIDTHS)
def test_permuted_units_compute_the_same_function(widths):
    net = mlp(5, widths, 3)

    def law(key):
        keys = jax.random.split(key, 3)
        params, perms, x = randomised(net, keys[0]), random_perms(net.spec, keys[1]), jax.random.normal(keys[2], (6, 5))
        out, units = net.capture(params, x)
        moved = permute(net.spec, params, perms)
        expected = out, [{g: u[..., perms[g]] for g, u in part.items()} for part in units[:2]]
        out, units = net.capture(moved, x)
        return (net.apply(moved, x), out, list(units[:2])), (net.apply(params, x), *expected)

    keys = jax.random.split(jax.random.key(0), 3)
    for found, expected in (law(keys[0]), jax.jit(law)(keys[0]), jax.vmap(law)(keys)):
        chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("widths", WIDTHS[:2])
def test_capture(widths):
    net = mlp(5, widths, 3)
    params = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 5))
    out, units = net.capture(params, x)
    chex.assert_trees_all_equal(out, net.apply(params, x))
    assert set(units.pre) == set(units.post) == set(net.spec.sizes)
    chex.assert_trees_all_close(units.post, jax.tree.map(jax.nn.relu, units.pre))
    first = params["params"]["dense_0"]
    chex.assert_trees_all_close(units.pre["h0"][:, 0], x @ first["kernel"] + first["bias"][None], atol=1e-5)
    last = params["params"][f"dense_{len(widths)}"]
    chex.assert_trees_all_close(
        out, units.post[f"h{len(widths) - 1}"][:, 0] @ last["kernel"] + last["bias"][None], atol=1e-5
    )
    chex.assert_shape([units.pre[g] for g in net.spec.sizes], [(6, 1, n) for n in widths])

    jitted = jax.jit(net.capture)(params, x)
    chex.assert_trees_all_close(jitted, (out, units), atol=1e-5)
    stacked = jax.vmap(net.init)(jax.random.split(jax.random.key(0), 3))
    outs, _ = jax.vmap(net.capture, in_axes=(0, None))(stacked, x)
    each = net.capture(jax.tree.map(lambda w: w[1], stacked), x)[0]
    chex.assert_trees_all_close(outs[1], each, atol=1e-5)


def test_sensitivity_is_the_gradient_with_respect_to_pre_activations():
    net = mlp(5, (4, 6), 3)
    params = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 5))
    out, units = net.capture(params, x, jnp.sum)
    chex.assert_trees_all_close((out, units[:2]), (net.apply(params, x), net.capture(params, x)[1][:2]), atol=1e-6)
    last = params["params"]["dense_2"]["kernel"].sum(-1)[None]
    expected = jnp.where(units.pre["h1"][:, 0] > 0, last, 0.0)
    chex.assert_trees_all_close(units.sensitivity["h1"][:, 0], expected, atol=1e-5)
    assert jnp.any(units.sensitivity["h0"] != 0)


@pytest.mark.parametrize("widths", WIDTHS)
def test_spec_fits_the_parameters_and_fixes_inputs_and_outputs(widths):
    net = mlp(5, widths, 3)
    net.spec.check(net.init(jax.random.key(0)))
    assert net.spec == declared(widths)
    axes = net.spec.axes["params"]
    assert axes["dense_0"]["kernel"] == Axes(None, "h0")
    assert axes[f"dense_{len(widths)}"]["bias"] == Axes(None)


def test_config_rebuilds_the_network():
    net = mlp(5, (4, 6), 3)
    again = build(json.loads(json.dumps(net.config)))
    assert again.spec == net.spec and again.config == net.config
    params = net.init(jax.random.key(0))
    chex.assert_trees_all_equal(again.init(jax.random.key(0)), params)
    chex.assert_trees_all_equal(again.apply(params, jnp.ones((2, 5))), net.apply(params, jnp.ones((2, 5))))


def test_inputs_are_flattened():
    net = mlp(6, (4,), 3)
    params = net.init(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 3, 2))
    chex.assert_trees_all_equal(net.apply(params, x), net.apply(params, x.reshape(2, 6)))


def test_errors():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        mlp(5, (), 3)
    with pytest.raises(ValueError, match=r"kind must be one of .*'mlp'.*'nope'"):
        build({"kind": "nope"})
    with pytest.raises(ValueError, match="kind must be one of"):
        build({"inputs": 3})
