"""Vision transformers: patches are told apart by their positions alone."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import BlockOptions, ViT, vit


def test_patches_are_told_apart_by_position_embeddings_alone():
    model = ViT(2, 8, 1, 3, BlockOptions(2, 2, 8))
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))
    params = jax.jit(model.init)(jax.random.key(1), x)
    turned = jnp.concatenate([x[:, 2:], x[:, :2]], axis=1)
    params["params"]["positions"] *= 50
    assert jnp.abs(model.apply(params, x) - model.apply(params, turned)).max() > 1e-2
    params["params"]["positions"] *= 0
    assert jnp.allclose(model.apply(params, x), model.apply(params, turned), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="patch must divide"):
        vit((30, 32, 3))
    with pytest.raises(ValueError, match="vit: heads must divide dim"):
        vit(dim=30)
