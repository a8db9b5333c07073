"""Mixers: MLPs over patches mix patches, those over channels do not."""

import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import Mixer, mixer


def test_patches_matter_by_their_place():
    model = Mixer(2, 5, 1, 4, 6, 3)
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))
    params = jax.jit(model.init)(jax.random.key(1), x)
    turned = jnp.concatenate([x[:, 2:], x[:, :2]], axis=1)
    assert jnp.abs(model.apply(params, x) - model.apply(params, turned)).max() > 1e-3
    still = jax.tree.map(lambda leaf: leaf, params)
    still["params"]["tokens_down_0"] = jax.tree.map(jnp.zeros_like, params["params"]["tokens_down_0"])
    assert jnp.allclose(model.apply(still, x), model.apply(still, turned), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="patch must divide"):
        mixer((32, 30, 3))
