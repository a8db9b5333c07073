"""Modules of nnx: their state in, the module with another state out; keys and counters stay."""

import jax
import numpy as np
import pytest
from flax import nnx

import dwalign
from tests import drawn
from tests.frontends import laws

X = drawn.normal(8, 5)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.one, self.two = nnx.Linear(5, 6, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(6, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.two(self.drop(nnx.relu(self.norm(self.one(x)))))


def contents(model):
    graph, state = nnx.split(model)
    leaves = jax.tree.leaves(nnx.to_pure_dict(state))
    return graph, [np.asarray(jax.random.key_data(x) if jnp_key(x) else x) for x in leaves]


def jnp_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def test_a_module_with_keys_and_batch_statistics():
    model = Net()
    graph, before = contents(model)
    dwalign.from_model(model, X)
    assert contents(model)[0] == graph
    jax.tree.map(np.testing.assert_array_equal, contents(model)[1], before)

    evaluating = nnx.clone(model)
    evaluating.eval()
    evaluated = lambda params: dwalign.into_model(evaluating, params)(X)
    net, params = laws.there_and_back(evaluating, X, answer=lambda model: model(X))
    assert net.spec.sizes == {"h0": 6}

    def trained(params):
        training = dwalign.into_model(nnx.clone(model), params)
        training.drop.deterministic = True
        return training(X)

    laws.renewed(net, params, X, evaluated=evaluated, trained=trained)


def test_statistics_of_params_of_numpy_are_renewed_while_traced():
    net, params = dwalign.from_model(Net(), X)
    host = jax.tree.map(np.asarray, params)
    new = jax.jit(lambda x: net.train(host, x)[1])(X)
    assert np.isfinite(new["norm"]["mean"]).all() and not np.array_equal(new["norm"]["mean"], host["norm"]["mean"])


def test_params_are_the_values_of_when_they_were_taken():
    """States of nnx hold the Variables of their module, and modules that are merged from one state share them."""
    model = Net()
    _, params = dwalign.from_model(model, X)
    before = jax.tree.map(np.array, params)
    nnx.update(model, jax.tree.map(lambda leaf: 2 * leaf, nnx.state(model, nnx.Param)))
    jax.tree.map(np.testing.assert_array_equal, params, before)

    _, doubled = dwalign.from_model(model, X)
    placed = dwalign.into_model(nnx.clone(model), before)
    for module, held in ((model, doubled), (placed, before)):
        jax.tree.map(np.testing.assert_array_equal, dwalign.from_model(module, X)[1], held)


class Deep(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(5, 5, rngs=rngs) for _ in range(11)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return x


def test_states_are_taken_by_name():
    """`nnx.merge` puts arrays in by their order, which the texts that files make of numbers change."""
    model = Deep(0)
    layers = nnx.to_pure_dict(nnx.state(model))["layers"]
    saved = {"layers": {str(number): layers[number] for number in layers}}
    for params in (saved, nnx.state(model)):
        net, placed = dwalign.from_model(Deep(1), X, params=params)
        np.testing.assert_allclose(jax.jit(net.apply)(placed, X), model(X), atol=1e-6)
        np.testing.assert_allclose(dwalign.into_model(Deep(1), params)(X), model(X), atol=1e-6)
    for wrong in ({"layers": layers, "more": X}, {"layers": {**saved["layers"], "10": {"kernel": X, "b": X}}}):
        with pytest.raises(ValueError, match=r"params must hold the arrays \['layers.0.bias', .* of this module"):
            dwalign.from_model(model, X, params=wrong)


def test_arrays_of_other_shapes_are_refused():
    laws.other_shapes_are_refused(Net(), X)


def test_a_model_may_hold_numbers_of_python():
    model = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
    model.bias = nnx.Param(1.0)
    params = nnx.to_pure_dict(nnx.state(model))
    placed = dwalign.into_model(model, params | {"bias": np.float32(2)})
    assert placed.bias[...] == 2
