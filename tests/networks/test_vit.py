"""Vision transformers: patches are told apart by their positions alone."""

import jax
import numpy as np
import pytest

from dwalign.networks import BlockOptions, ViT, vit
from tests import drawn


def test_patches_are_told_apart_by_position_embeddings_alone():
    model = ViT(2, 8, 1, 3, BlockOptions(2, 2, 8))
    x = drawn.normal(1, 4, 4, 1)
    params, apply = drawn.started(model.init, x), jax.jit(model.apply)
    turned = np.concatenate([x[:, 2:], x[:, :2]], axis=1)
    assert np.abs(apply(params, x) - apply(params, turned)).max() > 1e-2
    params["params"]["positions"] *= 0
    assert np.allclose(apply(params, x), apply(params, turned), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="patch must divide"):
        vit((30, 32, 3))
    with pytest.raises(ValueError, match="vit: heads must divide dim"):
        vit(dim=30)
