"""MLPs: the spec holds for every depth, captured units are what the network computes, configs rebuild it."""

import itertools
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks import build, mlp
from dwalign.symmetry import Axes, PermutationSpec, permute
from tests import drawn


def declared(widths):
    groups = [None, *(f"h{k}" for k in range(len(widths))), None]
    axes = {
        f"dense_{k}": {"bias": Axes(after), "kernel": Axes(before, after)}
        for k, (before, after) in enumerate(itertools.pairwise(groups))
    }
    return PermutationSpec({"params": axes}, {f"h{k}": width for k, width in enumerate(widths)})


WIDTHS = [(4,), (7, 5), (6, 6, 6), (3, 4, 5, 6, 7)]


@pytest.mark.parametrize("widths", WIDTHS)
def test_permuted_units_compute_the_same_function(widths):
    net = mlp(5, widths, 3)
    params, perms, x = drawn.started(net.init), drawn.perms(net.spec), drawn.normal(6, 5)
    capture = jax.jit(net.capture)
    (out, units), (moved, after) = (capture(one, x) for one in (params, permute(net.spec, params, perms)))
    chex.assert_trees_all_close(moved, out, rtol=1e-4, atol=1e-4)
    for part, moved_part in zip(units[:2], after[:2], strict=True):
        expected = {g: np.asarray(part[g])[..., perms[g]] for g in net.spec.sizes}
        chex.assert_trees_all_close(moved_part, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("widths", WIDTHS[:2])
def test_capture(widths):
    net = mlp(5, widths, 3)
    params, x = drawn.started(net.init), drawn.normal(6, 5, seed=1)
    out, units = jax.tree.map(np.asarray, jax.jit(net.capture)(params, x))
    chex.assert_trees_all_close(out, jax.jit(net.apply)(params, x), atol=1e-6)
    assert set(units.pre) == set(units.post) == set(net.spec.sizes)
    chex.assert_trees_all_close(units.post, jax.tree.map(lambda u: np.maximum(u, 0), units.pre))
    first = params["params"]["dense_0"]
    chex.assert_trees_all_close(units.pre["h0"][:, 0], x @ first["kernel"] + first["bias"], atol=1e-5)
    last = params["params"][f"dense_{len(widths)}"]
    chex.assert_trees_all_close(out, units.post[f"h{len(widths) - 1}"][:, 0] @ last["kernel"] + last["bias"], atol=1e-5)
    chex.assert_shape([units.pre[g] for g in net.spec.sizes], [(6, 1, n) for n in widths])

    stacked = jax.tree.map(lambda w: np.stack([w + 1, w, w - 1]), params)
    found = jax.jit(jax.vmap(net.capture, in_axes=(0, None)))(stacked, x)
    chex.assert_trees_all_close(jax.tree.map(lambda u: np.asarray(u)[1], found), (out, units), atol=1e-5)


def test_sensitivity_is_the_gradient_with_respect_to_pre_activations():
    net = mlp(5, (4, 6), 3)
    params, x = drawn.started(net.init), drawn.normal(2, 5, seed=1)
    both = jax.jit(lambda p, x: (net.capture(p, x, jnp.sum), net.capture(p, x)))
    (out, units), (plain, without) = jax.tree.map(np.asarray, both(params, x))
    assert without.sensitivity is None
    chex.assert_trees_all_close((out, units[:2]), (plain, without[:2]), atol=1e-6)
    last = params["params"]["dense_2"]["kernel"].sum(-1)
    expected = np.where(units.pre["h1"][:, 0] > 0, last, np.float32(0))
    chex.assert_trees_all_close(units.sensitivity["h1"][:, 0], expected, atol=1e-5)
    assert np.any(units.sensitivity["h0"] != 0)


@pytest.mark.parametrize("widths", WIDTHS)
def test_spec_fits_the_parameters_and_fixes_inputs_and_outputs(widths):
    net = mlp(5, widths, 3)
    net.spec.check(jax.eval_shape(net.init, jax.random.key(0)))
    assert net.spec == declared(widths)
    axes = net.spec.axes["params"]
    assert axes["dense_0"]["kernel"] == Axes(None, "h0")
    assert axes[f"dense_{len(widths)}"]["bias"] == Axes(None)


def test_config_rebuilds_the_network():
    net = mlp(5, (4, 6), 3)
    again = build(json.loads(json.dumps(net.config)))
    assert again.spec == net.spec and again.config == net.config
    key = jax.random.key(0, impl="unsafe_rbg")
    program = lambda one: jax.make_jaxpr(lambda key, x: one.apply(one.init(key), x))(key, np.ones((2, 5), np.float32))
    assert str(program(again)) == str(program(net))


def test_inputs_are_flattened():
    net = mlp(6, (4,), 3)
    params, x, apply = drawn.started(net.init), drawn.normal(2, 3, 2, seed=1), jax.jit(net.apply)
    chex.assert_trees_all_equal(apply(params, x), apply(params, x.reshape(2, 6)))


def test_errors():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        mlp(5, (), 3)
    with pytest.raises(ValueError, match=r"kind must be one of .*'mlp'.*'nope'"):
        build({"kind": "nope"})
    with pytest.raises(ValueError, match="kind must be one of"):
        build({"inputs": 3})
