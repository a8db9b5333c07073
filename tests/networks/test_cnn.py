"""CNNs: positions and channels are flattened in the declared order; sizes that do not fit are refused."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import CNN, cnn


def test_the_flattened_activation_is_positions_times_channels():
    model = CNN((4,), (), 2)
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 3))
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]
    assert params["dense_0"]["kernel"].shape == (2 * 3 * 4, 2)
    # a read-out of channel 1 alone does not see the others
    kernel = jnp.zeros((6, 4, 2)).at[:, 1].set(1.0).reshape(24, 2)
    params["dense_0"]["kernel"] = kernel
    muted = {**params, "conv_0": {**params["conv_0"], "bias": jnp.array([9.0, 0.0, -9.0, 9.0])}}
    out = model.apply({"params": params}, x)
    assert jnp.array_equal(model.apply({"params": muted}, x), out) and jnp.any(out != 0)


def test_errors():
    with pytest.raises(ValueError, match="at least 8 pixels"):
        cnn((4, 8, 1), (3, 3, 3))
