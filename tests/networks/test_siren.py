"""SIRENs: a closed form, and the published initialisation keeps activations alike through depth."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import Siren, fix_signs, siren


def test_one_layer_is_the_formula():
    model = Siren((4,), 1, omega=7.0)
    x = jax.random.uniform(jax.random.key(0), (5, 2), minval=-1.0)
    params = jax.jit(model.init)(jax.random.key(1), x)
    one, two = params["params"]["dense_0"], params["params"]["dense_1"]
    expected = jnp.sin(7.0 * (x @ one["kernel"] + one["bias"][None])) @ two["kernel"] + two["bias"][None]
    assert jnp.allclose(model.apply(params, x), expected, atol=1e-5)


def test_activations_have_the_same_spread_at_every_depth():
    x = jax.random.uniform(jax.random.key(0), (512, 2), minval=-1.0)
    model = Siren((128,) * 4, 1)
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]
    for k in range(4):
        x = jnp.sin(30.0 * (x @ params[f"dense_{k}"]["kernel"] + params[f"dense_{k}"]["bias"][None]))
        # of the sine of a normal variable of variance one
        assert abs(float(x.std()) - 0.68) < 0.1


def test_signs_do_not_change_the_function():
    net = siren(2, (6, 5), 3, omega=7.0)
    params, x = net.init(jax.random.key(0)), jax.random.uniform(jax.random.key(1), (9, 2), minval=-1.0)
    fixed = fix_signs(params)
    assert jnp.allclose(net.apply(fixed, x), net.apply(params, x), atol=1e-5)
    hidden = [fixed["params"][f"dense_{k}"]["bias"] for k in range(2)]
    assert min(float(bias.min()) for bias in hidden) >= 0
    assert not jnp.array_equal(fixed["params"]["dense_0"]["bias"], params["params"]["dense_0"]["bias"])
    assert jnp.array_equal(fixed["params"]["dense_2"]["bias"], params["params"]["dense_2"]["bias"])


def test_errors():
    with pytest.raises(ValueError, match="at least one hidden layer"):
        siren(widths=())
