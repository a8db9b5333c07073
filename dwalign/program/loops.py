"""Loops whose convolutions run as fast as outside of them.

XLA brings convolutions into the one order of dimensions that its kernels for CPUs take, but not inside loops: there the
gradient of a kernel, or any convolution that has its channels in front, runs dozens of times slower
(https://github.com/jax-ml/jax/issues/12868). Here that order is written into the program, whoever wrote it. Networks of
this package multiply patches instead (`dwalign.networks.convolution`), quick also with a kernel for each network.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from dwalign.program.inference.calls import inside
from dwalign.program.interpret import bind, interpret, trace

PyTree = Any


def scan(step: Callable, init: PyTree, xs: PyTree = None, length: int | None = None) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan` with a `quick` step."""
    return jax.lax.scan(quick(step), init, xs, length)


def map(f: Callable, xs: PyTree) -> PyTree:
    """`jax.lax.map` of a `quick` function."""
    return jax.lax.map(quick(f), xs)


def quick(f: Callable) -> Callable:
    """The function with its convolutions in the order that loops on a CPU ask for; others come back as they are.

    >>> import jax.numpy as jnp
    >>> f = lambda x: jax.lax.conv(x, jnp.ones((1, 1, 2)), (1,), "SAME")
    >>> jnp.array_equal(quick(f)(jnp.ones((1, 1, 3))), f(jnp.ones((1, 1, 3)))).item()
    True
    """

    def run(*args):
        if jax.default_backend() != "cpu":
            return f(*args)
        program, put = trace(f, *args)
        # what was traced is not traced again; what has rules of its own for gradients keeps them
        flat = interpret(program, _ordered, enter=_holds) if _convolves(program) else jaxpr_as_fun(program)
        return put(flat(*jax.tree.leaves(args)))

    return run


def _ordered(eqn: Any, ins: list) -> list:
    if eqn.primitive.name != "conv_general_dilated":
        return bind(eqn, ins)
    left, right, out = eqn.params["dimension_numbers"]
    last = len(out) - 1
    # batch, positions, channels; of kernels positions, channels in, channels out
    order = (0, last, *range(1, last)), (last, last - 1, *range(last - 1)), (0, last, *range(1, last))
    params = eqn.params | {"dimension_numbers": jax.lax.ConvDimensionNumbers(*order)}
    x = jax.lax.transpose(ins[0], (left[0], *left[2:], left[1]))
    kernel = jax.lax.transpose(ins[1], (*right[2:], right[1], right[0]))
    found = eqn.primitive.bind(x, kernel, **params)
    place = dict(zip(out, order[2], strict=True))
    return [jax.lax.transpose(found, [place[dimension] for dimension in range(len(out))])]


def _convolves(program: ClosedJaxpr | Jaxpr) -> bool:
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return any(eqn.primitive.name == "conv_general_dilated" or _holds(eqn) for eqn in jaxpr.eqns)


def _holds(eqn: Any) -> bool:
    """Is there a convolution in a program inside this equation?"""
    return any(_convolves(one) for one in inside(eqn))
