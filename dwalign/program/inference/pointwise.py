"""What primitives that compute each entry by itself do to numbers, in NumPy.

Some functions level off: a computer takes far away for one number what is many. `far` has others in their place, with
the same bounds and of which the same are inverse to one another.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import special

from dwalign.program.inference.known import COMPUTED

Function = Callable[..., np.ndarray]
# floats with fewer bits than these are steps
FINE = 7


def computed(name: str, params: Mapping[str, Any], dtype: Any, arrays: list[np.ndarray], *, far: bool) -> np.ndarray:
    """The entries that a primitive makes of those of its operands; `dtype` is that of the result."""
    value = (FAR if far and name in FAR else POINTWISE)[name](params, dtype, *arrays)
    if name == "convert_element_type" or not jnp.issubdtype(dtype, jnp.inexact):
        return _converted(params, dtype, value)
    return value


def _converted(params, dtype, x):
    if not jnp.issubdtype(dtype, jnp.inexact):
        return x.real.astype(dtype)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return x.astype(np.complex128)
    wide = x.real.astype(np.float64)
    return wide.astype(dtype).astype(np.float64) if jnp.finfo(dtype).nmant < FINE else wide


def _shortened(params, dtype, x):
    if params["mantissa_bits"] >= FINE:
        return x
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(np.ldexp(fraction, params["mantissa_bits"] + 1)), exponent - params["mantissa_bits"] - 1)


def _of_arrays(function: Callable) -> Function:
    return lambda params, dtype, *arrays: function(*arrays)


def _sign(x):
    return np.where(x == 0, 0, x / np.abs(x)) if np.iscomplexobj(x) else np.sign(x)


def _divided(x, y):
    whole = np.issubdtype(np.result_type(x, y), np.integer)
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)) if whole else x / y


def _chosen(which, *cases):
    return np.select([which.astype(int) == k for k in range(len(cases))], cases)


def _power(x, y):
    return np.power(x.astype(np.result_type(x, np.float64)), y)


SAME = {
    "convert_element_type", "copy", "copy_p", "device_put", "name", "optimization_barrier", "pvary",
    "sharding_constraint", "stop_gradient",
}  # fmt: skip
POINTWISE: dict[str, Function] = {
    **dict.fromkeys(SAME, _of_arrays(lambda x: x)),
    **{name: COMPUTED[name] for name in "add sub mul neg max min rem lt le gt ge eq ne clamp and or xor not".split()},
    "integer_pow": lambda params, dtype, x: _power(x, params["y"]),
    "reduce_precision": _shortened,
    "round": lambda params, dtype, x: np.round(x) if params["rounding_method"] else np.trunc(x + np.copysign(0.5, x)),
    **{
        name: _of_arrays(function)
        for name, function in dict(
            abs=np.abs, acos=np.arccos, acosh=np.arccosh, add_any=np.add, asin=np.arcsin, asinh=np.arcsinh,
            atan=np.arctan, atan2=np.arctan2, atanh=np.arctanh, cbrt=np.cbrt, ceil=np.ceil,
            complex=lambda x, y: x + 1j * y, conj=np.conj, cos=np.cos, cosh=np.cosh, div=_divided, erf=special.erf,
            erf_inv=special.erfinv, erfc=special.erfc, exp=np.exp, exp2=np.exp2, expm1=np.expm1, floor=np.floor,
            imag=np.imag, is_finite=np.isfinite, log=np.log, log1p=np.log1p, logistic=special.expit,
            nextafter=lambda x, y: x, pow=_power, real=np.real, rsqrt=lambda x: 1 / np.sqrt(x), select_n=_chosen,
            sign=_sign, sin=np.sin, sinh=np.sinh, sqrt=np.sqrt, square=np.square, tan=np.tan, tanh=np.tanh,
        ).items()
    },
}  # fmt: skip


def _growing(x):
    return np.where(np.real(x) > 0, 1 + x, 1 / (1 - x))


def _bounded(x):
    return x / (1 + np.abs(x))


def _shrinking(x):
    return np.where(np.real(x) > 1, x - 1, 1 - 1 / x)


FAR: dict[str, Function] = {
    name: _of_arrays(function)
    for name, function in dict(
        cosh=lambda x: (_growing(x) + _growing(-x)) / 2, erf=_bounded, erfc=lambda x: 1 - _bounded(x), exp=_growing,
        exp2=_growing, expm1=lambda x: _growing(x) - 1, log=_shrinking, log1p=lambda x: _shrinking(1 + x),
        logistic=lambda x: (1 + _bounded(x)) / 2, sinh=lambda x: (_growing(x) - _growing(-x)) / 2, tanh=_bounded,
    ).items()
}  # fmt: skip
