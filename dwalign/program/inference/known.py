"""What is known of whole numbers, of which indices are made: which are the same, and which the program itself fixes.

Every value has a number; values that the same primitives make of the same values have the same. Fixed are literals,
constants, positions and what is computed of these: where they say what to pick, this is a slice (`rules.indexing`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.program.inference.facts import Facts, Occurrence

# of more numbers than these nobody makes an index
MOST = 1 << 14


def numbers(facts: Facts, eqn, operands: Sequence[Occurrence]) -> list[int]:
    """Of the results; those of whole numbers, of which indices are made, have the same wherever they are computed."""
    key: Any = None
    if not eqn.effects:
        made_of = tuple(facts.copies.get(one.number, one.number) for one in operands)
        key = eqn.primitive.name, tuple(sorted(eqn.params.items())), made_of
    alike = [facts.number(key and (key, k)) for k in range(len(eqn.outvars))]
    out = alike
    if all(jnp.issubdtype(var.aval.dtype, jnp.inexact) for var in eqn.outvars):
        out = [facts.number() for _ in alike]
        facts.copies.update(zip(out, alike, strict=True))
    if eqn.primitive.name in COMPUTED and all(one.number in facts.known for one in operands):
        _compute(facts, eqn, operands, out[0])
    vectors = eqn.primitive.name == "concatenate" and eqn.params["dimension"] == len(operands[0].dims) - 1
    if vectors and all(one.dims[-1] is None for one in operands):
        facts.columns[out[0]] = operands
    return out


def constant_number(facts: Facts, value: Any) -> int:
    """Of a literal or a constant of the program."""
    if jnp.issubdtype(jnp.result_type(value), jax.dtypes.extended):
        return facts.number()
    array = np.asarray(value)
    number = facts.number(("constant", str(array.dtype), array.tobytes()) if array.ndim == 0 else None)
    if not array.any():
        facts.zeros.add(number)
    if not array.all():
        facts.gaps.add(number)
    if jnp.issubdtype(array.dtype, jnp.inexact) and not np.isfinite(array).any():
        facts.fills.add(number)
    if array.ndim == 0 and not np.iscomplexobj(array):
        facts.scalars[number] = float(array)
    _keep(facts, number, array)
    return number


def _keep(facts: Facts, number: int, value: np.ndarray) -> None:
    whole = jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == np.bool_
    if whole and value.size <= MOST:
        facts.known[number] = value


def _compute(facts: Facts, eqn, operands: Sequence[Occurrence], number: int) -> None:
    (aval,) = (var.aval for var in eqn.outvars)
    if math.prod(aval.shape) <= MOST:
        with np.errstate(all="ignore"):
            value = COMPUTED[eqn.primitive.name](eqn.params, aval, *(facts.known[one.number] for one in operands))
        _keep(facts, number, np.asarray(value).astype(aval.dtype))


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
