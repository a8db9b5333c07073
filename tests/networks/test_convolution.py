"""The matrix product is the convolution and the reshape is the pooling; symmetries stay visible."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from dwalign.networks.convolution import convolve, halve
from dwalign.program import certify, infer_spec


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 1))])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("window", [(3, 3), (2, 2), (1, 1), (2, 3)])
def test_it_is_the_convolution(window, strides, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    options = dict(strides=strides, padding=padding)
    slow, fast = (nn.Conv(5, window, conv_general_dilated=f, **options) for f in (None, convolve))
    params = slow.init(jax.random.key(1), x)
    chex.assert_trees_all_close(fast.apply(params, x), slow.apply(params, x), atol=1e-5)


@pytest.mark.parametrize("options", [dict(feature_group_count=3), dict(kernel_dilation=2)])
def test_others_are_left_to_xla(options):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    slow, fast = (nn.Conv(6, (3, 3), conv_general_dilated=f, **options) for f in (None, convolve))
    params = slow.init(jax.random.key(1), x)
    chex.assert_trees_all_close(fast.apply(params, x), slow.apply(params, x), atol=1e-5)


def test_halving_is_max_pooling():
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    weights = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    slow, fast = (
        jax.value_and_grad(lambda x, pool=pool: (weights * pool(x)).sum())(x)
        for pool in (lambda x: nn.max_pool(x, (2, 2), (2, 2)), halve)
    )
    chex.assert_trees_all_close(fast, slow, atol=1e-5)


class Two(nn.Module):
    fast: bool

    @nn.compact
    def __call__(self, x):
        conv = convolve if self.fast else None
        x = nn.relu(nn.Conv(4, (3, 3), conv_general_dilated=conv)(x))
        return nn.Conv(2, (3, 3), strides=(2, 2), conv_general_dilated=conv)(x)


def test_the_same_symmetries_are_found():
    x = jnp.zeros((2, 8, 8, 3))
    params = Two(True).init(jax.random.key(0), x)
    specs = [infer_spec(Two(fast).apply, params, x) for fast in (False, True)]
    assert specs[0] == specs[1] and list(specs[0].sizes.values()) == [4]
    certify(specs[1], Two(True).apply, params, x)
