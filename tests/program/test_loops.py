"""Convolutions in loops: the same numbers, in the one order of dimensions that is fast there."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import interpret, loops
from dwalign.program.interpret import bind
from tests import drawn

ORDERS = {
    "channels last": ("NHWC", "HWIO", "NHWC"),
    "channels first": ("NCHW", "OIHW", "NCHW"),
    "mixed": ("CWNH", "IHOW", "HNCW"),
}
SHAPES = {"N": 3, "H": 5, "W": 4, "C": 4, "I": 2, "O": 6}
CANONICAL = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolution(order):
    options = dict(dimension_numbers=order, rhs_dilation=(1, 2), feature_group_count=2)
    return lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (2, 1), [(1, 0), (2, 1)], **options)


def arguments(order):
    image, kernel, _ = order
    sizes = SHAPES | {"H": 2, "W": 3}
    return drawn.normal(*(SHAPES[d] for d in image)), drawn.normal(*(sizes[d] for d in kernel), seed=1)


def orders_in(jaxpr):
    """The dimension numbers of every convolution, in loops and calls too."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            yield tuple(eqn.params["dimension_numbers"])
        for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from orders_in(getattr(value, "jaxpr", value))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_values_and_gradients_stay(order):
    f, (x, kernel) = convolution(order), arguments(order)
    square = lambda x, kernel: (f(x, kernel) ** 2).sum()
    for g in (f, jax.grad(square, argnums=(0, 1))):
        expected, found = g(x, kernel), loops.quick(g)(x, kernel)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), expected, found)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_gradients_in_a_scan_are_in_the_fast_order(order):
    f, (x, kernel) = convolution(order), arguments(order)
    gradient = jax.grad(lambda kernel: (jax.jit(f)(x, kernel) ** 2).sum())
    step = lambda kernel, _: (kernel - 0.01 * gradient(kernel), None)
    plain, quick = (lambda k, scan=scan: scan(step, k, None, 2)[0] for scan in (jax.lax.scan, loops.scan))
    assert set(orders_in(jax.make_jaxpr(plain)(kernel).jaxpr)) != {CANONICAL}
    assert set(orders_in(jax.make_jaxpr(quick)(kernel).jaxpr)) == {CANONICAL}
    np.testing.assert_allclose(plain(kernel), quick(kernel), rtol=1e-4, atol=1e-4)


def test_what_has_rules_of_its_own_keeps_them():
    @jax.custom_jvp
    def odd(x):
        return x**2

    odd.defjvp(lambda primals, tangents: (odd(*primals), 7 * tangents[0]))
    order = ORDERS["channels first"]
    f, (x, kernel) = convolution(order), arguments(order)
    program = loops.quick(lambda scale: odd(scale) + 0 * f(x, kernel).sum())
    assert float(jax.grad(program)(jnp.float32(3))) == pytest.approx(7)


def test_a_map_of_what_is_closed_over_under_vmap():
    order = ORDERS["channels first"]
    f, (x, kernel) = convolution(order), arguments(order)
    both = lambda map, kernel: map(lambda scale: f(scale * x, kernel), jnp.arange(3.0))
    kernels = np.stack([kernel, 2 * kernel])
    plain, quick = (jax.vmap(lambda k, map=map: both(map, k))(kernels) for map in (jax.lax.map, loops.map))
    np.testing.assert_allclose(plain, quick, rtol=1e-4, atol=1e-4)


def test_jax_has_nothing_against_it():
    f = lambda x: jax.nn.relu(convolution(ORDERS["channels first"])(x, arguments(ORDERS["channels first"])[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jax.make_jaxpr(loops.quick(f))(arguments(ORDERS["channels first"])[0])


def test_under_vmap_each_example_stops_by_itself():
    doubled = jax.vmap(lambda x: jax.lax.while_loop(lambda z: z < 10, lambda z: 2 * z, x))
    starts = jnp.array([1.0, 3.0, 9.0, 50.0])
    (found,) = interpret(jax.make_jaxpr(doubled)(starts), bind)(starts)
    np.testing.assert_array_equal(found, doubled(starts))
