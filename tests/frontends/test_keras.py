"""Models of Keras on JAX: all variables in, the model itself out."""

import os

import jax
import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
pytest.importorskip("keras")

import keras

import dwalign
from tests import drawn
from tests.frontends import laws

X = drawn.normal(8, 5)


def made():
    keras.utils.set_random_seed(0)
    # a model inside, and two layers of one name
    inner = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, name="same"), keras.layers.BatchNormalization()])
    entry = keras.Input((5,))
    x = keras.layers.Dropout(0.5)(keras.layers.Activation("relu")(inner(entry)))
    return keras.Model(entry, keras.layers.Dense(3, name="same")(x))


def own(model, training):
    with jax.numpy_rank_promotion("allow"):
        return model(X, training=training)


def test_a_model_with_batch_statistics_and_seeds():
    model = made()
    before = [np.array(variable.value) for variable in model.variables]
    _, params = dwalign.from_model(model, X)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.value, value)
    assert len(params) == len(model.variables) and any(leaf.dtype == np.uint32 for leaf in params.values())

    net, params = laws.there_and_back(model, X, answer=lambda model: own(model, False))
    assert net.spec.sizes == {"h0": 6}
    into = lambda params: dwalign.into_model(model, params)
    evaluated = lambda params: own(into(params), False)

    def trained(params):
        dropout = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
        dropout.rate = 0.0
        return own(into(params), True)

    laws.renewed(net, params, X, evaluated=evaluated, trained=trained)
    norm = next(layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization))
    assert norm.momentum == 0.99 and "call" not in vars(norm)
