"""A program with some of its values known to be one number all along: what that makes of the equations after it.

Calls are written out, so that every equation stands for one place of the program. What has rules of its own for
gradients keeps them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from dwalign.program.inference.walk import scan_parts
from dwalign.program.interpret import CONTROL, bind, interpret


class Same(NamedTuple):
    """An array that is one number everywhere."""

    number: Any


MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "expand_dims", "reduce_precision", "reshape"}
MOVES |= {"rev", "slice", "squeeze", "stop_gradient", "transpose"}
COMPUTED = dict(
    add=np.add, sub=np.subtract, mul=np.multiply, div=np.divide, max=np.maximum, min=np.minimum, neg=np.negative,
    sqrt=np.sqrt, square=np.square, rsqrt=lambda x: 1 / np.sqrt(x),
)  # fmt: skip


def simplify(program: ClosedJaxpr, known: Mapping[int, float], zeros: Collection[int] = ()) -> ClosedJaxpr:
    """The program with what is known in it.

    Args:
      known: for arguments, by number, what all their entries are; they do not enter the result.
      zeros: ids of equations whose results are zero.
    """

    def run(*values):
        given = [Same(np.asarray(known[k], value.dtype)[()]) if k in known else value for k, value in enumerate(values)]
        outs = interpret(program, equation, enter=is_plain_call)(*given)
        return [_whole(out, var.aval) for out, var in zip(outs, program.jaxpr.outvars, strict=True)]

    def equation(eqn, ins):
        if id(eqn) in zeros:
            return [Same(var.aval.dtype.type(0)) for var in eqn.outvars]
        if eqn.primitive.name == "scan":
            return _scan(eqn, ins, equation)
        if any(isinstance(one, Same) for one in ins) and (found := _short(eqn, ins)) is not None:
            return [found]
        return bind(eqn, [_whole(one, var.aval) for one, var in zip(ins, eqn.invars, strict=True)])

    return jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in program.jaxpr.invars))


def is_plain_call(eqn: Any) -> bool:
    return eqn.primitive.name not in CONTROL and not eqn.primitive.name.startswith("custom_")


def _whole(value: Any, aval: Any) -> Any:
    return jax.lax.full(aval.shape, value.number, aval.dtype) if isinstance(value, Same) else value


def _short(eqn: Any, ins: Sequence) -> Any:
    """The result where no equation is needed for it, or None."""
    name, aval = eqn.primitive.name, eqn.outvars[0].aval
    numbers = [_number(one) for one in ins]
    if name in MOVES:
        return Same(np.asarray(numbers[0]).astype(aval.dtype)[()])
    if name in COMPUTED and None not in numbers:
        return Same(np.asarray(COMPUTED[name](*numbers)).astype(aval.dtype)[()])
    if len(ins) != 2:
        return None
    left, right = numbers
    if (name == "mul" and 0 in numbers) or (name == "div" and left == 0):
        return Same(aval.dtype.type(0))
    neutral = {"mul": 1, "div": 1, "add": 0, "sub": 0}.get(name)
    if neutral is not None and right == neutral:
        return jax.lax.broadcast_in_dim(ins[0], aval.shape, range(aval.ndim))
    if name in ("mul", "add") and left == neutral:
        return jax.lax.broadcast_in_dim(ins[1], aval.shape, range(aval.ndim))
    return None


def _number(value: Any) -> Any:
    """What a value is all along; None where nothing is known."""
    if isinstance(value, Same):
        return value.number
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else None


def _scan(eqn: Any, ins: Sequence, equation) -> list:
    """Known rows and constants are known in every turn; what is carried is not."""
    (consts, carries), body = scan_parts(eqn), eqn.params["jaxpr"]
    inner = interpret(body, equation, enter=is_plain_call)
    rows = [one for one in ins[consts + carries :] if not isinstance(one, Same)]
    start = [_whole(one, var.aval) for one, var in zip(ins, eqn.invars, strict=True)][consts : consts + carries]

    def turn(state, row):
        row = list(row)
        given = [one if isinstance(one, Same) else row.pop(0) for one in ins[consts + carries :]]
        outs = [
            _whole(out, var.aval)
            for out, var in zip(inner(*ins[:consts], *state, *given), body.jaxpr.outvars, strict=True)
        ]
        return outs[:carries], outs[carries:]

    state, found = jax.lax.scan(turn, start, rows, eqn.params["length"], eqn.params["reverse"])
    return [*state, *found]


def equations(program: ClosedJaxpr, place: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Those of a program and of its scans that depend on its arguments, with their places among these.

    Others may be computed while a program is traced, and are in it at one time and at another not.
    """
    depend, k = {*program.jaxpr.invars}, 0
    for eqn in program.jaxpr.eqns:
        if depend.isdisjoint(var for var in eqn.invars if not isinstance(var, Literal)):
            continue
        depend.update(eqn.outvars)
        yield (*place, k), eqn
        if eqn.primitive.name == "scan":
            yield from equations(eqn.params["jaxpr"], (*place, k))
        k += 1
