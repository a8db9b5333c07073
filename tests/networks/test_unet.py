"""U-Nets: an output for every pixel, and skips that carry what the bottom loses."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import UNet, unet


def test_outputs_are_per_pixel_and_skips_carry_detail():
    model = UNet((3, 4), 2)
    x = jax.random.normal(jax.random.key(0), (1, 8, 12, 1))
    params = jax.jit(model.init)(jax.random.key(1), x)
    out = model.apply(params, x)
    assert out.shape == (1, 8, 12, 2)
    cut = jax.tree.map(lambda leaf: leaf, params)
    cut["params"]["upsample_0"] = jax.tree.map(jnp.zeros_like, params["params"]["upsample_0"])
    without = model.apply(cut, x)
    assert jnp.abs(without - out).max() > 1e-3 and without[0, :, :, 0].std() > 1e-3
    # what is left is the skip: two 3x3 convolutions see no further than two pixels
    moved = model.apply(cut, x.at[:, 0, 0].add(5.0)) != without
    assert moved[:, :3, :3].any() and not moved[:, 3:].any() and not moved[:, :, 3:].any()


def test_errors():
    with pytest.raises(ValueError, match="multiples of 4"):
        unet((6, 8, 1))
    with pytest.raises(ValueError, match="at least two levels"):
        unet(channels=(4,))
