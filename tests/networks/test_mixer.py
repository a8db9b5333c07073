"""Mixers: MLPs over patches mix patches, those over channels do not."""

import jax
import numpy as np
import pytest

from dwalign.networks import Mixer, mixer
from tests import drawn


def test_patches_matter_by_their_place():
    model = Mixer(2, 5, 1, 4, 6, 3)
    x = drawn.normal(1, 4, 4, 1)
    params = drawn.started(model.init, x)
    turned = np.concatenate([x[:, 2:], x[:, :2]], axis=1)
    apply = jax.jit(model.apply)
    assert np.abs(apply(params, x) - apply(params, turned)).max() > 1e-3
    params["params"]["tokens_down_0"] = jax.tree.map(np.zeros_like, params["params"]["tokens_down_0"])
    assert np.allclose(apply(params, x), apply(params, turned), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="patch must divide"):
        mixer((32, 30, 3))
