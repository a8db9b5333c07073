"""U-Nets: an output for every pixel, and skips that carry what the bottom loses."""

import jax
import numpy as np
import pytest

from dwalign.networks import UNet, unet
from tests import drawn


def test_outputs_are_per_pixel_and_skips_carry_detail():
    model = UNet((3, 4), 2)
    x = drawn.normal(1, 8, 12, 1)
    params = drawn.started(model.init, x)
    apply = jax.jit(model.apply)
    out = np.asarray(apply(params, x))
    assert out.shape == (1, 8, 12, 2)
    layers = params["params"]
    cut = {"params": {**layers, "upsample_0": jax.tree.map(np.zeros_like, layers["upsample_0"])}}
    without = np.asarray(apply(cut, x))
    assert np.abs(without - out).max() > 1e-3 and without[0, :, :, 0].std() > 1e-3
    # what is left is the skip: two 3x3 convolutions see no further than two pixels
    further = x.copy()
    further[:, 0, 0] += 5.0
    moved = apply(cut, further) != without
    assert moved[:, :3, :3].any() and not moved[:, 3:].any() and not moved[:, :, 3:].any()


def test_errors():
    with pytest.raises(ValueError, match="multiples of 4"):
        unet((6, 8, 1))
    with pytest.raises(ValueError, match="at least two levels"):
        unet(channels=(4,))
