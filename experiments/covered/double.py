"""A traced float32 program run in double precision, also where it asks for float32 by name.

The certificate does so too. What judges it shares no line with it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

PyTree = Any
WIDER = {np.dtype("float32"): np.dtype("float64"), np.dtype("complex64"): np.dtype("complex128")}
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def in_double(apply: Callable[..., PyTree], *example: PyTree) -> Callable[..., list[jax.Array]]:
    """`apply` with every float32 in it replaced by float64; gives the leaves of its outputs.

    The program is traced as it is and its equations are run again on wider values, since a module that is handed wide
    weights may still cast to the type that it was built with, or carry a float32 state.
    """
    closed = jax.make_jaxpr(apply)(*example)

    def run(*values):
        return _run(closed, jax.tree.leaves(values))

    def outside(*values):
        with jax.enable_x64(True):
            values = jax.tree.map(widened, values)
            # it runs twice: optimising takes longer
            return jax.jit(run).lower(*values).compile(QUICK)(*values)

    return outside


def widened(leaf: Any) -> Any:
    """In double precision, if it was in single."""
    dtype = getattr(leaf, "dtype", None)
    return jnp.asarray(leaf, WIDER[dtype]) if dtype in WIDER else leaf


def _run(closed: ClosedJaxpr, values: list[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, map(widened, closed.consts), strict=True))
    known |= dict(zip(jaxpr.invars, values, strict=True))
    read = lambda one: _literal(one) if isinstance(one, Literal) else known[one]
    for eqn in jaxpr.eqns:
        found = _equation(eqn, [read(one) for one in eqn.invars])
        known |= dict(zip(eqn.outvars, found, strict=True))
    return [read(one) for one in jaxpr.outvars]


def _literal(one: Literal) -> Any:
    return jnp.asarray(one.val, WIDER.get(one.aval.dtype, one.aval.dtype))


def _equation(eqn, ins: list[Any]) -> list[Any]:
    name, given = eqn.primitive.name, eqn.params
    if name == "scan":
        consts, carried = given["num_consts"], given["num_consts"] + given["num_carry"]

        def step(carry, xs):
            out = _run(given["jaxpr"], [*ins[:consts], *carry, *xs])
            return out[: given["num_carry"]], out[given["num_carry"] :]

        carry, ys = jax.lax.scan(
            step, ins[consts:carried], ins[carried:], length=given["length"], reverse=given["reverse"]
        )
        return [*carry, *ys]
    if name == "while":
        tests, bodies = given["cond_nconsts"], given["cond_nconsts"] + given["body_nconsts"]
        return jax.lax.while_loop(
            lambda carry: _run(given["cond_jaxpr"], [*ins[:tests], *carry])[0],
            lambda carry: _run(given["body_jaxpr"], [*ins[tests:bodies], *carry]),
            ins[bodies:],
        )
    if name == "cond":
        return jax.lax.switch(ins[0], [lambda *x, one=one: _run(one, list(x)) for one in given["branches"]], *ins[1:])
    inner = given.get("call_jaxpr", given.get("jaxpr", given.get("fun_jaxpr")))
    if inner is not None:
        return _run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), ins)
    wide = {key: WIDER.get(value, value) if isinstance(value, np.dtype) else value for key, value in given.items()}
    outs = eqn.primitive.bind(*ins, **wide)
    return outs if eqn.primitive.multiple_results else [outs]
