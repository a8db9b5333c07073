"""Whole numbers that the program itself fixes: literals, constants, positions, and what is computed of these.

Where such numbers say what to pick, they say which part of a dimension is taken, as a slice does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dwalign.program.inference.facts import Facts, Occurrence

# of more numbers than these nobody makes an index
MOST = 1 << 14


def constant(facts: Facts, number: int, value: Any) -> None:
    """The value of this number is known, if it holds whole numbers or truth values."""
    if not jnp.issubdtype(value.dtype, jnp.integer) and value.dtype != np.bool_:
        return
    if np.size(value) <= MOST:
        facts.known[number] = np.asarray(value)


def compute(facts: Facts, eqn, operands: Sequence[Occurrence], number: int) -> None:
    """Compute the result of an equation, if all its operands are known."""
    name = eqn.primitive.name
    if name not in COMPUTED or not all(one.number in facts.known for one in operands):
        return
    (aval,) = (var.aval for var in eqn.outvars)
    if np.prod(aval.shape) <= MOST:
        with np.errstate(all="ignore"):
            value = COMPUTED[name](eqn.params, aval, *(facts.known[one.number] for one in operands))
        constant(facts, number, np.asarray(value).astype(aval.dtype))


def _broadcast(params, aval, x):
    shape = [1] * aval.ndim
    for k, size in zip(params["broadcast_dimensions"], x.shape, strict=True):
        shape[k] = size
    return np.broadcast_to(x.reshape(shape), aval.shape)


def _iota(params, aval):
    shape = [-1 if k == params["dimension"] else 1 for k in range(aval.ndim)]
    return np.broadcast_to(np.arange(aval.shape[params["dimension"]]).reshape(shape), aval.shape)


def _slice(params, aval, x):
    strides = params["strides"] or [1] * aval.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*each) for each in bounds)]


def _of_arrays(function: Callable) -> Callable:
    return lambda params, aval, *arrays: function(*arrays)


COMPUTED: dict[str, Callable] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, aval, *arrays: np.concatenate(arrays, params["dimension"]),
    "iota": _iota,
    "rev": lambda params, aval, x: np.flip(x, params["dimensions"]),
    "select_n": lambda params, aval, which, *cases: np.choose(which.astype(int), cases),
    "slice": _slice,
    "stack": lambda params, aval, *arrays: np.stack(arrays, params["axis"]),
    "transpose": lambda params, aval, x: x.transpose(params["permutation"]),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), lambda params, aval, x: x.reshape(aval.shape)),
    **dict.fromkeys(("convert_element_type", "copy", "stop_gradient"), _of_arrays(lambda x: x)),
    **{
        name: _of_arrays(function)
        for name, function in dict(
            add=np.add, sub=np.subtract, mul=np.multiply, neg=np.negative, max=np.maximum, min=np.minimum,
            sign=np.sign, rem=np.fmod, div=lambda x, y: np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)),
            lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal, eq=np.equal, ne=np.not_equal,
            clamp=lambda low, x, high: np.clip(x, low, high),
            **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert},
        ).items()
    },
}  # fmt: skip
