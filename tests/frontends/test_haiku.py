"""Functions that Haiku transformed, with state and without."""

import jax
import numpy as np
import pytest

import dwalign
from tests import drawn
from tests.frontends import laws

hk = pytest.importorskip("haiku")
X = drawn.normal(8, 5)


def test_a_function_without_state():
    model = hk.transform(lambda x: hk.nets.MLP([6, 3])(x))
    net, _ = laws.there_and_back(model, X, answer=lambda params: model.apply(params, None, X), key=jax.random.key(0))
    assert net.spec.sizes == {"h0": 6} and net.train is None


def test_a_function_that_takes_no_key():
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([6, 3])(x)))
    net, _ = laws.there_and_back(model, X, answer=lambda params: model.apply(params, X), key=jax.random.key(0))
    assert net.spec.sizes == {"h0": 6}


def test_a_function_with_batch_statistics():
    def forward(x, is_training):
        x = hk.BatchNorm(True, True, 0.9)(hk.Linear(6)(x), is_training)
        return hk.Linear(3)(jax.nn.relu(x))

    model = hk.transform_with_state(forward)
    apply = jax.jit(model.apply, static_argnums=4)
    start = model.init(jax.random.key(0), X, True)
    # the averages of three batches
    for seed in range(3):
        start = start[0], apply(*start, None, drawn.normal(8, 5, seed=seed), True)[1]
    evaluated = lambda both: apply(*both, None, X, False)[0]
    net, params = laws.there_and_back(model, X, answer=evaluated, params=start, call={"is_training": False})
    assert net.spec.sizes == {"h0": 6}
    assert jax.tree.structure(net.init(jax.random.key(1))) == jax.tree.structure(params)

    own = lambda params: dwalign.into_model(model, params)
    trained = lambda params: apply(*own(params), None, X, True)[0]
    new = laws.renewed(net, params, X, evaluated=lambda params: evaluated(own(params)), trained=trained)
    # Haiku goes on from there: the same inputs again leave the average where it is
    again = apply(*own(new), None, X, True)[1]
    for name, state in again.items():
        np.testing.assert_allclose(state["average"], new["state"][name]["average"], atol=1e-5)
