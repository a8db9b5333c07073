"""Networks of this package are models of their own, also by a name on the command line."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign.frontends import find_model
from dwalign.networks import vgg
from tests import drawn
from tests.frontends import laws

X, Y = drawn.normal(4, 5), drawn.normal(4, 2, seed=1)
PARAMS = {"up": drawn.normal(5, 6, seed=2), "more": drawn.normal(2, 6, seed=3), "down": drawn.normal(6, 3, seed=4)}


def two(params, x, y):
    return jax.nn.relu(x @ params["up"] + y @ params["more"]) @ params["down"]


def test_any_function_of_several_inputs():
    model = dwalign.network(two, PARAMS, X, Y)
    net, _ = laws.there_and_back(model, X, Y, params=PARAMS, answer=lambda params: two(params, X, Y))
    assert net.spec.sizes == {"h0": 6} and net.apply(PARAMS, (X, Y)).shape == (4, 3)
    with pytest.raises(ValueError, match="no keyword arguments"):
        dwalign.from_model(model, X, Y, call={"train": False})


def test_rows_of_one_input_are_not_taken_for_several():
    both = lambda params, x, y: two(params, x, y @ params["turn"])
    params = PARAMS | {"turn": drawn.normal(5, 2, seed=5)}
    net = dwalign.network(both, params, X, X)
    assert dwalign.from_model(net, X[:2], X[:2])[0].spec == net.spec
    with pytest.raises(dwalign.SpecError, match="missing 1 required"):
        dwalign.from_model(net, X[:2])


def test_a_tuple_of_one_input_stays_one():
    net = dwalign.network(lambda params, x: two(params, x[0], Y), PARAMS, (X,))
    np.testing.assert_allclose(dwalign.from_model(net, X)[0].apply(PARAMS, X), two(PARAMS, X, Y), rtol=1e-6)


def test_a_key_gives_it_values():
    net, key = dwalign.networks.mlp(4, (6,), 3), jax.random.key(0)
    jax.tree.map(np.testing.assert_array_equal, dwalign.from_model(net, drawn.normal(2, 4), key=key)[1], net.init(key))


def test_batch_statistics_stay_what_they_are():
    model = vgg((4, 4, 1), ((3,),), (), 2, "batch")
    pictures = drawn.normal(5, 4, 4, 1)
    net, params = dwalign.from_model(model, pictures)
    assert net.spec.statistics == model.spec.statistics and net.spec.sizes == model.spec.sizes
    weights = laws.varied(drawn.weights(params))
    trained = [jax.jit(one.train)(weights, pictures) for one in (net, model)]
    for one, other in zip(*trained, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)
    jax.tree.map(np.testing.assert_array_equal, net.init(jax.random.key(0)), model.init(jax.random.key(0)))


def test_a_factory_that_returns_one_needs_no_inputs_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import dwalign\n\ndef make():\n    return dwalign.networks.mlp(inputs=4, widths=(6,), outputs=3)\n"
    )
    model, inputs = find_model("own.py:make")
    net, params = dwalign.from_model(model, *inputs, params=dwalign.frontends.shapes_of(model))
    assert net.spec == model.spec and jax.tree.structure(params) == jax.tree.structure(model.params)
