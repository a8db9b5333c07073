"""A program in double precision: what it means, without what its types make of it.

A symmetry does not depend on how numbers are stored or multiplied. `widen` runs the equations of a traced function with
every floating type replaced by one wide type and every product at highest precision: bf16, fp16 and TF32 leave no trace
in the result, and what differs by more than the rounding of the wide type differs by mathematics.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from dwalign.symmetry.inference.walk import called, scan_parts

# what reads or makes bits, or runs code that was written for the types it was given
TYPED = {"bitcast_convert_type", "random_gamma", "custom_linear_solve", "shard_map"}
COMBINERS = {"reduce", "reduce_window"}


def widen(closed: ClosedJaxpr, wide: Any, narrow: set[np.dtype]) -> Callable[..., list[jax.Array]]:
    """The program as a function of its flat arguments, computed in `wide` (float64 under `jax.enable_x64`, or float32).

    Kernels and callbacks get the types that they were written for; the types of those that compute in floating
    numbers are added to `narrow` while the function is traced.
    """

    def run(*arguments):
        values = [_cast(value, wider(aval.dtype, wide)) for value, aval in zip(arguments, closed.in_avals, strict=True)]
        return _run(closed, values, wide, narrow)

    return run


def _cast(value: Any, dtype: Any) -> Any:
    return value if value.dtype == dtype else jax.lax.convert_element_type(value, dtype)


def _widened(value: Any, wide: Any) -> Any:
    return _cast(value, wider(value.dtype, wide))


def wider(dtype: Any, wide: Any) -> Any:
    """The type in place of `dtype`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.result_type(wide, np.complex64)
    return np.dtype(wide) if jnp.issubdtype(dtype, jnp.floating) else dtype


def _run(closed: ClosedJaxpr | Jaxpr, values: Sequence, wide, narrow) -> list:
    jaxpr, consts = (closed.jaxpr, closed.consts) if isinstance(closed, ClosedJaxpr) else (closed, ())
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, [_widened(const, wide) for const in consts], strict=True))
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(var):
        # a Python number would take the types of the wide world, also where it is an integer
        return np.asarray(var.val, wider(var.aval.dtype, wide)) if isinstance(var, Literal) else env[var]

    for eqn in jaxpr.eqns:
        outs = _equation(eqn, [read(var) for var in eqn.invars], wide, narrow)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _equation(eqn, ins: list, wide, narrow) -> Sequence:
    name, body = eqn.primitive.name, called(eqn)
    if name in CONTROL:
        return CONTROL[name](eqn, ins, wide, narrow)
    if name in TYPED or (body is None and _foreign(eqn)):
        return _as_typed(eqn, ins, wide, narrow)
    if body is not None:
        return _run(body, ins, wide, narrow)
    if name == "reduce_precision":
        return ins
    out = eqn.primitive.bind(*ins, **{key: _parameter(key, value, wide, narrow) for key, value in eqn.params.items()})
    return out if eqn.primitive.multiple_results else [out]


def _foreign(eqn) -> bool:
    """Does it run something that is not seen from here?"""
    if eqn.primitive.name in COMBINERS or eqn.primitive.name.startswith("scatter"):
        return False
    programs = any(isinstance(value, Jaxpr | ClosedJaxpr) for value in eqn.params.values())
    return programs or any(word in eqn.primitive.name for word in ("call", "ffi"))


def _parameter(key: str, value: Any, wide, narrow) -> Any:
    if key == "precision":
        return jax.lax.Precision.HIGHEST
    if isinstance(value, Jaxpr | ClosedJaxpr):
        # how two numbers are combined
        scalars = [jax.ShapeDtypeStruct(one.shape, wider(one.dtype, wide)) for one in _avals(value)]
        combiner = jax.make_jaxpr(lambda *ins: _run(value, ins, wide, narrow))(*scalars)
        return combiner if isinstance(value, ClosedJaxpr) else combiner.jaxpr
    try:
        return wider(np.dtype(value), wide) if isinstance(value, np.dtype | type) else value
    except TypeError:
        return value


def _avals(program: Jaxpr | ClosedJaxpr) -> list:
    return program.in_avals if isinstance(program, ClosedJaxpr) else [var.aval for var in program.invars]


def _as_typed(eqn, ins, wide, narrow) -> Sequence:
    variables = {var: value for var, value in zip(eqn.invars, ins, strict=True) if not isinstance(var, Literal)}
    given = [_cast(value, var.aval.dtype) for var, value in variables.items()]
    floating = [
        {np.dtype(var.aval.dtype) for var in side if jnp.issubdtype(var.aval.dtype, jnp.inexact)}
        for side in (variables, eqn.outvars)
    ]
    if all(floating):
        narrow.update(*floating)
    alone = Jaxpr((), list(variables), eqn.outvars, [eqn], eqn.effects)
    return [_widened(value, wide) for value in jaxpr_as_fun(ClosedJaxpr(alone, ()))(*given)]


def _scan(eqn, ins, wide, narrow):
    consts, carries = scan_parts(eqn)
    body, params = eqn.params["jaxpr"], eqn.params

    def turn(state, row):
        outs = _run(body, [*ins[:consts], *state, *row], wide, narrow)
        return outs[:carries], outs[carries:]

    state, rows = jax.lax.scan(
        turn, ins[consts : consts + carries], ins[consts + carries :], params["length"], params["reverse"]
    )
    return [*state, *rows]


def _while(eqn, ins, wide, narrow):
    tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    test, fixed, state = ins[:tests], ins[tests : tests + bodies], ins[tests + bodies :]
    return jax.lax.while_loop(
        lambda now: _run(eqn.params["cond_jaxpr"], [*test, *now], wide, narrow)[0],
        lambda now: _run(eqn.params["body_jaxpr"], [*fixed, *now], wide, narrow),
        state,
    )


def _cond(eqn, ins, wide, narrow):
    branches = [lambda *values, body=body: _run(body, values, wide, narrow) for body in eqn.params["branches"]]
    return jax.lax.switch(ins[0], branches, *ins[1:])


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
