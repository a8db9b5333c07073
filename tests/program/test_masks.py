"""Units whose rows of a mask are alike can be exchanged among themselves, where these lie side by side or in turns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign import Data, align, interpolate, network
from dwalign.program import certify, infer_spec
from tests import drawn

X = drawn.normal(3, 5)
ROWS = {
    "in turns": ([1, 2, 3, 1, 2, 3], "_, h0*f0"),
    "in turns of which the last is not whole": ([1, 2, 3, 4, 1, 2], "_, (h0 & h1 & 1 & 1)"),
    "side by side": ([1, 1, 2, 2, 3, 3], "_, f0*h0"),
    "beside single ones": ([1, 1, 1, 2, 3, 3], "_, h0 + 1 + h1"),
    "single ones beside one another": ([2, 3, 1, 1, 1, 1], "_, 2 + h0"),
    "again, out of turn": ([1, 2, 3, 1, 3, 2], "_, _"),
    "all others": ([1, 2, 3, 4, 5, 6], "_, _"),
}


@pytest.mark.parametrize("name", ROWS)
def test_units_that_a_constant_treats_alike_are_free(name):
    row, axes = ROWS[name]
    apply = lambda p, x: jnp.tanh(x @ p["up"] * np.float32(row)[None]) @ p["down"]
    params = drawn.named(up=(5, 6), down=(6, 2))
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["up"]) == axes
    assert not certify(spec, apply, params, X, complete=True).missed


def test_turns_beside_stretches_of_the_same_lengths_tie_all_units():
    rows = [np.float32([1, 2, 3, 1, 2])[None], np.float32([1, 1, 2, 2, 3])[None]]
    apply = lambda p, x: (jnp.tanh(x @ p["up"] * rows[0]) * rows[1]) @ p["down"]
    assert not infer_spec(apply, drawn.named(up=(5, 5), down=(5, 2)), X).sizes


def test_units_that_take_turns_are_captured():
    row = np.float32([1, 2, 3, 1, 2, 3, 1])
    params = drawn.named(up=(5, 7), down=(7, 2))
    one = network(lambda p, x: jnp.tanh(x @ p["up"] * row[None]) @ p["down"], params, X)
    units = one.capture(params, X)[1].post
    found = np.tanh(X @ params["up"] * row)
    for k in range(3):
        np.testing.assert_allclose(units[f"h{k}"][:, 0], found[:, k::3], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_zeros_of_two_signs_are_two_numbers(dtype):
    """What is computed of them, such as an angle, may differ."""
    row = np.array([0, 0, -0.0, -0.0], jnp.dtype(dtype))
    angle = lambda: jnp.arctan2(jnp.asarray(row), jnp.asarray(-1, row.dtype)).astype(np.float32)
    apply = lambda p, x: jnp.tanh(x @ p["up"] * angle()[None]) @ p["down"]
    params = drawn.named(up=(5, 4), down=(4, 2))
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["up"]) == "_, f0*h0"
    certify(spec, apply, params, X)


MADE = {
    "h0*f0 h1*f1": np.arange(8) % 4,
    "f0*h0 f1*h1": np.arange(8) // 2,
    "(h0 & h1 & h2) (h3 & h4 & h5)": np.arange(8) % 3,
    "h0 + h1 + 1 + h2 h3 + h4 + 1 + h5": [0, 0, 0, 1, 1, 2, 3, 3],
}


@pytest.mark.parametrize("axes", MADE)
def test_units_of_one_degree_in_a_masked_autoregressive_network(axes):
    inputs, units = np.arange(5), np.asarray(MADE[axes])
    read = lambda one, other: (one[:, None] <= other[None]).astype(np.float32)

    def apply(p, x):
        h = jax.nn.relu(x @ (p["in"] * read(inputs, units)) + p["b"][None])
        h = jax.nn.relu(h @ (p["up"] * read(units, units)))
        return h @ (p["down"] * (units[:, None] < inputs[None]))

    params = drawn.named(b=(8,), up=(8, 8), down=(8, 5), **{"in": (5, 8)})
    spec = infer_spec(apply, params, X)
    assert f"{spec.axes['b']} {str(spec.axes['up']).split(', ')[1]}" == axes
    assert not certify(spec, apply, params, X, complete=True).missed


def test_blocks_that_a_mask_keeps_apart():
    """Each of three blocks reads units of its own; which block it is cannot change, for inputs tell them apart."""
    mask = np.kron(np.eye(3), np.ones((2, 4)))
    apply = lambda p, x: jnp.tanh(jnp.tanh(x @ p["in"]) @ jnp.where(mask, p["up"], 0)) @ p["down"]
    params = drawn.named(up=(6, 12), down=(12, 2), **{"in": (5, 6)})
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["up"]) == "f0*h0, f1*h1" and (spec.batch["h0"], spec.batch["h1"]) == (("f0",), ("f1",))
    certify(spec, apply, params, X)


def made(mask):
    """A network of which `mask`, one of its parameters, says which hidden units see which inputs."""

    def apply(params, x):
        up, down = (jnp.where(m, params[w], 0) for m, w in ((params["mask"], "up"), (~params["mask"].T, "down")))
        return jnp.tanh(x @ up + params["b"][None]) @ down

    return apply, drawn.named(up=(5, 6), down=(6, 5), b=(6,)) | {"mask": mask}


def test_a_mask_among_the_parameters_stays():
    """Units of one degree are exchanged, so that the network at the far end of the line is the second one."""
    apply, a = made(np.arange(6) % 3 >= np.arange(5)[:, None])
    b = drawn.named(seed=1, up=(5, 6), down=(6, 5), b=(6,)) | {"mask": a["mask"]}
    net = network(apply, a, X)
    assert str(net.spec.axes["up"]) == "_, h0*f0" and str(net.spec.axes["mask"]) == "_, _"
    assert not certify(net.spec, apply, a, X, complete=True).missed
    found = align(net, a, b, "activation_matching", data=Data(X))
    end = interpolate(net.spec, a, b, 1.0, perms=found.perms)
    np.testing.assert_allclose(apply(end, X), apply(b, X), rtol=1e-5)


def test_a_mask_of_pruned_weights_goes_with_its_units():
    apply, params = made(np.random.default_rng(0).random((5, 6)) < 0.5)
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["mask"]) == str(spec.axes["up"]) == "_, h0"
    certify(spec, apply, params, X)
