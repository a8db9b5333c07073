"""VGGs: their layers are those of the stages, and batch statistics are read or made."""

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import VGG, vgg
from dwalign.networks.vgg import VGG11, VGG16
from tests import drawn


def test_published_depths():
    for stages, layers in ((VGG11, 8), (VGG16, 13)):
        assert sum(map(len, stages)) == layers
        shapes = jax.eval_shape(
            VGG(stages, (), 10, "batch").init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
        )
        assert shapes["params"]["dense_0"]["kernel"].shape == (512, 10)
        assert sum(name.startswith("conv") for name in shapes["params"]) == layers


def test_training_uses_the_statistics_of_its_inputs_and_returns_them():
    net = vgg((4, 4, 2), ((3,),), (), 2, "batch")
    assert net.train is not None
    params, x = drawn.started(net.init), 5 + drawn.normal(6, 4, 4, 2)
    out, updated = jax.jit(net.train)(params, x)
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    before = np.asarray(jax.jit(convolve)(x, params["params"]["conv_0_0"]["kernel"]))
    found = updated["batch_stats"]["norm_0_0"]
    chex.assert_trees_all_close(found, {"mean": before.mean((0, 1, 2)), "var": before.var((0, 1, 2))}, rtol=1e-3)
    chex.assert_trees_all_equal(updated["params"], params["params"])
    apply = jax.jit(net.apply)
    chex.assert_trees_all_close(apply(updated, x), out, atol=1e-4)
    assert np.abs(apply(params, x) - out).max() > 0.1


def test_errors():
    with pytest.raises(ValueError, match="at least 32 pixels"):
        vgg((16, 16, 3))
    with pytest.raises(ValueError, match=r"norm must be one of .*'batch'.* got 'bacth'"):
        vgg((4, 4, 2), ((3,),), norm="bacth")
