"""CNNs: positions and channels are flattened in the declared order; sizes that do not fit are refused."""

import jax
import numpy as np
import pytest

from dwalign.networks import CNN, cnn
from tests import drawn


def test_the_flattened_activation_is_positions_times_channels():
    model = CNN((4,), (), 2)
    x = drawn.normal(1, 4, 6, 3)
    params = drawn.started(model.init, x)["params"]
    assert params["dense_0"]["kernel"].shape == (2 * 3 * 4, 2)
    # a read-out of channel 1 alone does not see the others
    params["dense_0"]["kernel"] = np.tile(np.float32([0, 1, 0, 0])[:, None], (6, 2))
    muted = {**params, "conv_0": {**params["conv_0"], "bias": params["conv_0"]["bias"] + np.float32([9, 0, -9, 9])}}
    apply = jax.jit(model.apply)
    out = np.asarray(apply({"params": params}, x))
    assert np.array_equal(apply({"params": muted}, x), out) and np.any(out != params["dense_0"]["bias"])


def test_errors():
    with pytest.raises(ValueError, match="at least 8 pixels"):
        cnn((4, 8, 1), (3, 3, 3))
