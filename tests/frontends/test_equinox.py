"""Modules of Equinox: written for one example, activations among their leaves, state beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from tests import drawn
from tests.frontends import laws

eqx = pytest.importorskip("equinox")
X = drawn.normal(8, 5)


def test_a_module():
    model = eqx.nn.MLP(5, 2, 6, 2, key=jax.random.key(0))
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))]
    net, params = laws.there_and_back(model, X, answer=lambda module: jax.vmap(module)(X))
    assert params["layers.0.weight"].shape == (6, 5) and net.train is None and net.spec.sizes == {"h0": 6, "h1": 6}
    for one, two in zip(before, jax.tree.leaves(eqx.filter(model, eqx.is_array)), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="must hold the arrays"):
        dwalign.into_model(model, {})
    laws.other_shapes_are_refused(model, X)


class Net(eqx.Module):
    one: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    two: eqx.nn.Linear

    def __init__(self, mode):
        self.one, self.two = (eqx.nn.Linear(*sizes, key=jax.random.key(0)) for sizes in ((5, 6), (6, 3)))
        self.norm, self.drop = eqx.nn.BatchNorm(6, "batch", mode=mode), eqx.nn.Dropout(0.5)

    def __call__(self, x, state, key):
        x, state = self.norm(self.one(x), state)
        return self.two(self.drop(jax.nn.relu(x), key=key)), state


def call(module, state):
    one = lambda x: module(x, state, None)
    return jax.vmap(one, axis_name="batch", out_axes=(0, None))(X)


def evaluated(pair):
    module, state = pair
    return call(eqx.nn.inference_mode(module), state)[0]


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_a_module_with_batch_statistics(mode):
    model = eqx.nn.make_with_state(Net)(mode)
    # after one batch, so that there is something to read
    module = eqx.tree_at(lambda net: net.drop, model[0], eqx.nn.Dropout(0.5, inference=True))
    model = module, call(module, model[1])[1]
    if mode == "ema":
        net, params = laws.there_and_back(model, X, answer=evaluated)
    else:
        net, params = dwalign.from_model(model, X)
    assert net.spec.sizes == {"h0": 6}

    def trained(params):
        module, state = dwalign.into_model(model, params)
        if mode == "ema":
            # what it normalises by in training includes the past, unless there is none
            state = state.set(module.norm.ema_first_time_index, jnp.array(True))
        return call(module, state)[0]

    laws.renewed(net, params, X, evaluated=lambda params: evaluated(dwalign.into_model(model, params)), trained=trained)
