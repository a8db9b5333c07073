"""Operations are counted as XLA counts them, but in loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program.operations import count_operations

ONES = lambda *shape: np.ones(shape, np.float32)


def convolved(x, kernel):
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=numbers, feature_group_count=2)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (lambda x, y: jnp.tanh(x @ y), (ONES(6, 20), ONES(20, 7))),
        (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (ONES(3, 6, 20), ONES(3, 20, 7))),
        (convolved, (ONES(2, 30, 8), ONES(5, 4, 6))),
    ],
)
def test_as_xla_does(function, args):
    counted = jax.jit(function).lower(*args).cost_analysis()["flops"]
    np.testing.assert_allclose(count_operations(jax.make_jaxpr(function)(*args)), counted, rtol=0.1)


def test_a_scan_does_those_of_its_body_at_each_step():
    step = lambda h, x: (jnp.tanh(h @ x), None)
    many = jax.make_jaxpr(lambda h, xs: jax.lax.scan(step, h, xs))(ONES(4, 4), ONES(9, 4, 4))
    assert count_operations(many) == 9 * count_operations(jax.make_jaxpr(step)(ONES(4, 4), ONES(4, 4)))
