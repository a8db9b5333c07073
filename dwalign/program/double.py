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
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from dwalign.program.interpret import bind, interpret

# what reads or makes bits, or runs code that was written for the types it was given
TYPED = {"bitcast_convert_type", "random_gamma", "custom_linear_solve", "shard_map"}
COMBINERS = {"reduce", "reduce_window"}


def widen(program: ClosedJaxpr | Jaxpr, wide: Any, narrow: set[np.dtype]) -> Callable[..., list[jax.Array]]:
    """The program as a function of its flat arguments, computed in `wide` (float64 under `jax.enable_x64`, or float32).

    Kernels and callbacks get the types that they were written for; the types of those that compute in floating
    numbers are added to `narrow` while the function is traced.
    """

    def equation(eqn, ins):
        name = eqn.primitive.name
        if name == "reduce_precision":
            return ins
        if name in TYPED or _foreign(eqn):
            return [_cast(one, wider(one.dtype, wide)) for one in _as_typed(eqn, ins, narrow)]
        params = {key: _parameter(key, value, wide, narrow) for key, value in eqn.params.items()}
        out = eqn.primitive.bind(*ins, **params)
        return out if eqn.primitive.multiple_results else [out]

    return interpret(program, equation, lambda value, aval: _cast(value, wider(aval.dtype, wide)))


def wider(dtype: Any, wide: Any) -> Any:
    """The type in place of `dtype`."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return np.result_type(wide, np.complex64)
    return np.dtype(wide) if jnp.issubdtype(dtype, jnp.floating) else dtype


def _cast(value: Any, dtype: Any) -> Any:
    return value if value.dtype == dtype else jax.lax.convert_element_type(value, dtype)


def _foreign(eqn) -> bool:
    """Does it run something that is not seen from here?"""
    name = eqn.primitive.name
    if name in COMBINERS or name.startswith("scatter"):
        return False
    programs = any(isinstance(value, Jaxpr | ClosedJaxpr) for value in eqn.params.values())
    return programs or any(word in name for word in ("call", "ffi"))


def _parameter(key: str, value: Any, wide: Any, narrow: set[np.dtype]) -> Any:
    if key == "precision":
        return jax.lax.Precision.HIGHEST
    if isinstance(value, Jaxpr | ClosedJaxpr):
        # how two numbers are combined
        jaxpr = value.jaxpr if isinstance(value, ClosedJaxpr) else value
        scalars = [jax.ShapeDtypeStruct(var.aval.shape, wider(var.aval.dtype, wide)) for var in jaxpr.invars]
        combiner = jax.make_jaxpr(widen(value, wide, narrow))(*scalars)
        return combiner if isinstance(value, ClosedJaxpr) else combiner.jaxpr
    return wider(value, wide) if isinstance(value, np.dtype) else value


def _as_typed(eqn, ins: Sequence, narrow: set[np.dtype]) -> Sequence:
    """One equation by itself, in the types it was traced in."""
    variables = {var: value for var, value in zip(eqn.invars, ins, strict=True) if not isinstance(var, Literal)}
    floating = [
        {np.dtype(var.aval.dtype) for var in side if jnp.issubdtype(var.aval.dtype, jnp.inexact)}
        for side in (variables, eqn.outvars)
    ]
    if all(floating):
        narrow.update(*floating)
    return bind(eqn, [_cast(one, var.aval.dtype) for one, var in zip(ins, eqn.invars, strict=True)])
