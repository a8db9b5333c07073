"""The programs that equations run: bodies of calls and branches, and what primitives of other libraries do."""

import contextlib
import dis
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from dwalign.program.inference.rules import OPAQUE, RULES, shapes

LOOPS = ("scan", "while", "cond", "custom_linear_solve")
WIDE = ("float64", "complex128", "int64", "uint64")


def called(eqn) -> ClosedJaxpr | Jaxpr | None:
    """The program that a call-like equation (jit, remat, custom derivatives, ...) runs on its operands, or None."""
    high = eqn.params.get("_prim")
    if high is not None and hasattr(high, "expand"):
        # newer versions of JAX keep some functions whole, such as searchsorted
        return jax.make_jaxpr(lambda *flat: jax.tree.leaves(high.expand(*high.in_tree.unflatten(flat))))(*_types(eqn))
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = eqn.params.get(key)
        holds = isinstance(body, ClosedJaxpr | Jaxpr) and eqn.primitive.name not in (*LOOPS, "pallas_call")
        # a combiner of scalars (reduce) or the part of one device (shard_map) is not the program on these operands
        if holds and _fits(body, eqn):
            return body
    return _implementation(eqn)


def _implementation(eqn) -> ClosedJaxpr | None:
    """What a primitive that JAX does not know does, where its library wrote that in primitives that JAX does know.

    Those of JAX itself run as they are.
    """
    name = eqn.primitive.name
    if name in RULES or name in LOOPS or eqn.effects or any(word in name for word in OPAQUE):
        return None
    # the function may be read in another world than it was traced in
    wide = any(var.aval.dtype.name in WIDE for var in (*eqn.invars, *eqn.outvars))
    # one that was not made to be traced may object in any way
    with contextlib.suppress(Exception), jax.enable_x64(wide):
        body = jax.make_jaxpr(lambda *ins: eqn.primitive.impl(*ins, **eqn.params))(*_types(eqn))
        return body if _fits(body, eqn) and not _runs(body, name) else None
    return None


def _types(eqn) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in eqn.invars]


def _fits(body: ClosedJaxpr | Jaxpr, eqn) -> bool:
    inner = body.jaxpr if isinstance(body, ClosedJaxpr) else body
    return shapes(inner.invars) == shapes(eqn.invars) and shapes(inner.outvars) == shapes(eqn.outvars)


def _runs(program: ClosedJaxpr | Jaxpr, *names: str) -> bool:
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return any(eqn.primitive.name in names or any(_runs(one, *names) for one in inside(eqn)) for eqn in jaxpr.eqns)


def inside(eqn) -> Iterator[ClosedJaxpr | Jaxpr]:
    """All programs among the parameters of an equation."""
    is_program = lambda value: isinstance(value, ClosedJaxpr | Jaxpr)
    return filter(is_program, jax.tree.leaves(list(eqn.params.values()), is_leaf=is_program))


def branches(eqn) -> list[ClosedJaxpr]:
    """Those of a `cond`, where one that can only end in an error has another in its place: it hands on nothing."""
    every = eqn.params["branches"]
    first = next((body for body in every if _returns(body)), None)
    return [body if first is None or _returns(body) else first for body in every]


def _returns(program: ClosedJaxpr | Jaxpr) -> bool:
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "pure_callback" and not _may_return(eqn.params["callback"]):
            return False
        if eqn.primitive.name in ("jit", "pjit") and not _returns(eqn.params["jaxpr"]):
            return False
    return True


def _may_return(callback: Any) -> bool:
    """Whether a function of Python has a way out that is no error."""
    code = getattr(getattr(callback, "callback_func", callback), "__code__", None)
    return code is None or any(one.opname.startswith(("RETURN", "YIELD")) for one in dis.get_instructions(code))


def solved_map(eqn) -> ClosedJaxpr | None:
    """The map that takes the results of a `custom_linear_solve` to its right-hand sides.

    None where the solver goes round by round, or uses no triangles: it may stop before it is there. So where it says
    more than the results, and where it may take for granted that the map is symmetric: then it reads one half of it.
    """
    bodies = eqn.params["jaxprs"]
    more = len(eqn.outvars) > len(bodies.matvec.out_avals)
    direct = _runs(bodies.solve, "triangular_solve") and not _runs(bodies.solve, "scan", "while")
    return bodies.matvec if direct and not more and str(bodies.matvec) != str(bodies.vecmat) else None


def needed(eqn) -> Sequence:
    """The operands on which results depend; how a linear map was factorised to solve it says nothing new of them."""
    if eqn.primitive.name != "custom_linear_solve" or solved_map(eqn) is None:
        return eqn.invars
    lengths = eqn.params["const_lengths"]
    return [*eqn.invars[: lengths.matvec], *eqn.invars[sum(lengths) :]]


def scan_parts(eqn) -> tuple[int, int]:
    """Numbers of constants and of carried values of a scan."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))
