"""How much a traced program does: XLA counts it too, in programs that are made for it first, and loops once."""

import math

from jax.extend.core import ClosedJaxpr, Jaxpr

from dwalign.program.inference.calls import inside


def count_equations(program: ClosedJaxpr | Jaxpr) -> int:
    """Those of the programs that equations run included.

    >>> import jax, jax.numpy as jnp
    >>> count_equations(jax.make_jaxpr(lambda x: jnp.sin(x) @ x)(jnp.ones((4, 4))))
    2
    """
    eqns = _eqns(program)
    return len(eqns) + sum(count_equations(one) for eqn in eqns for one in inside(eqn))


def count_operations(program: ClosedJaxpr | Jaxpr) -> float:
    """About so many on numbers: two for each term of a product, one for each number that all else writes.

    Those of a scan count at each step, those of a loop of unknown length once.

    >>> import jax, jax.numpy as jnp
    >>> count_operations(jax.make_jaxpr(lambda x: jnp.sin(x) @ x)(jnp.ones((4, 4))))
    144.0
    """
    return sum(map(_operations_of, _eqns(program)), 0.0)


def _operations_of(eqn) -> float:
    if bodies := list(inside(eqn)):
        return eqn.params.get("length", 1) * sum(map(count_operations, bodies))
    # of other types than arrays some have no shape
    written = sum(math.prod(getattr(var.aval, "shape", ())) for var in eqn.outvars)
    if eqn.primitive.name == "dot_general":
        (summed, _), _ = eqn.params["dimension_numbers"]
        return 2.0 * written * math.prod(eqn.invars[0].aval.shape[k] for k in summed)
    if eqn.primitive.name == "conv_general_dilated":
        kernel, made = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec[0]
        return 2.0 * written * math.prod(size for k, size in enumerate(kernel) if k != made)
    return written


def _eqns(program: ClosedJaxpr | Jaxpr) -> list:
    return (program.jaxpr if isinstance(program, ClosedJaxpr) else program).eqns
