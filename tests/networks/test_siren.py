"""SIRENs: a closed form, and the published initialisation keeps activations alike through depth."""

import jax
import numpy as np
import pytest

from dwalign.networks import Siren, fix_signs, siren
from tests import drawn


def uniform(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_one_layer_is_the_formula():
    model, x = Siren((4,), 1, omega=7.0), uniform(5, 2)
    params = drawn.started(model.init, x)
    one, two = params["params"]["dense_0"], params["params"]["dense_1"]
    expected = np.sin(7.0 * (x @ one["kernel"] + one["bias"])) @ two["kernel"] + two["bias"]
    assert np.allclose(jax.jit(model.apply)(params, x), expected, atol=1e-5)


def test_activations_have_the_same_spread_at_every_depth():
    x = uniform(512, 2)
    model = Siren((128,) * 4, 1)
    # this generator compiles in a tenth of the default one's time
    params = jax.jit(model.init)(jax.random.key(1, impl="unsafe_rbg"), x)["params"]
    for k in range(4):
        layer = jax.tree.map(np.asarray, params[f"dense_{k}"])
        x = np.sin(30.0 * (x @ layer["kernel"] + layer["bias"]))
        # of the sine of a normal variable of variance one
        assert abs(x.std() - 0.68) < 0.1


def test_signs_do_not_change_the_function():
    net = siren(2, (6, 5), 3, omega=7.0)
    params, x = drawn.started(net.init), uniform(9, 2)
    fixed, apply = fix_signs(params), jax.jit(net.apply)
    assert np.allclose(apply(fixed, x), apply(params, x), atol=1e-5)
    hidden = [fixed["params"][f"dense_{k}"]["bias"] for k in range(2)]
    assert min(float(bias.min()) for bias in hidden) >= 0
    assert not np.array_equal(fixed["params"]["dense_0"]["bias"], params["params"]["dense_0"]["bias"])
    assert np.array_equal(fixed["params"]["dense_2"]["bias"], params["params"]["dense_2"]["bias"])


def test_errors():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        siren(widths=())
