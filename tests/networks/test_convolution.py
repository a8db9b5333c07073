"""The matrix product is the convolution and the reshape is the pooling; symmetries stay visible."""

import chex
import flax.linen as nn
import jax
import pytest

from dwalign.networks.convolution import convolve, halve
from dwalign.program import certify, infer_spec
from tests import drawn

X = drawn.normal(2, 9, 8, 3)


def both(*options):
    """What modules of these options give with and without the product, in one program."""
    slow, fast = ([nn.Conv(conv_general_dilated=f, **one) for one in options] for f in (None, convolve))
    params = [drawn.started(module.init, X) for module in slow]

    def run(params, x):
        return [[module.apply(p, x) for module, p in zip(side, params, strict=True)] for side in (fast, slow)]

    return jax.jit(run)(params, X)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (2, 1)])
@pytest.mark.parametrize("window", [(3, 3), (2, 2), (1, 1), (2, 3)])
def test_it_is_the_convolution(window, strides):
    paddings = ("SAME", "VALID", ((1, 2), (0, 1)))
    options = [dict(features=5, kernel_size=window, strides=strides, padding=padding) for padding in paddings]
    chex.assert_trees_all_close(*both(*options), atol=1e-5)


@pytest.mark.parametrize("options", [dict(feature_group_count=3), dict(kernel_dilation=2)])
def test_others_are_left_to_xla(options):
    chex.assert_trees_all_close(*both(dict(features=6, kernel_size=(3, 3), **options)), atol=1e-5)


def test_halving_is_max_pooling():
    weights = drawn.normal(2, 4, 4, 3, seed=1)
    slow, fast = (
        jax.jit(jax.value_and_grad(lambda x, pool=pool: (weights * pool(x)).sum()))(X)
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
    x = drawn.normal(2, 8, 8, 3)
    params = drawn.started(Two(True).init, x)
    specs = [infer_spec(Two(fast).apply, params, x) for fast in (False, True)]
    assert specs[0] == specs[1] and list(specs[0].sizes.values()) == [4]
    certify(specs[1], Two(True).apply, params, x)
