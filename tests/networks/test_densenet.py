"""DenseNets: layers add channels, transitions halve them."""

import jax
import numpy as np
import pytest

from dwalign.networks import DenseNet, densenet


def test_channels_add_up():
    images = np.zeros((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(DenseNet(6, 4, (2, 3), 5).init, jax.random.key(0), images)["params"]
    assert [shapes[f"conv_0_{k}"]["kernel"].shape[2] for k in range(2)] == [6, 10]
    assert shapes["transition_1"]["kernel"].shape == (1, 1, 14, 7)
    assert [shapes[f"conv_1_{k}"]["kernel"].shape[2] for k in range(3)] == [7, 11, 15]
    assert shapes["head"]["kernel"].shape == (19, 5)


def test_errors():
    with pytest.raises(ValueError, match="use fewer stages"):
        densenet((2, 2, 1))
