"""Which arguments of a program must be positive: those of which it takes roots, logarithms or powers.

A variance may be one row of an array of scanned layers, a spectrum an input: neither shape nor name tells. What a root
is taken of does, followed back through moves, sums and products to the arguments.
"""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from dwalign.program.inference.calls import branches, called, scan_parts

ROOTS = {"log", "log1p", "sqrt", "rsqrt", "cbrt", "pow", "lgamma", "digamma"}
# positive on positive operands
KEEPING = set(
    """
    add add_any mul div sqrt rsqrt pow dot_general conv_general_dilated reduce_sum reduce_max reduce_min reduce_prod
    reshape broadcast_in_dim transpose squeeze expand_dims slice dynamic_slice gather concatenate split rev copy copy_p
    convert_element_type reduce_precision stop_gradient cumsum cumprod max min tile pad sort
    """.split()
)
Origins = frozenset[int]
NONE: Origins = frozenset()


def positive_arguments(closed: ClosedJaxpr) -> Origins:
    """The numbers of the arguments that must be positive."""
    found: set[int] = set()
    _walk(closed, [frozenset([k]) for k in range(len(closed.in_avals))], found)
    return frozenset(found)


def _walk(program: ClosedJaxpr | Jaxpr, values: Sequence[Origins], found: set[int]) -> list[Origins]:
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    env: dict[Any, Origins] = dict(zip(jaxpr.invars, values, strict=True))

    def read(var) -> Origins:
        return NONE if isinstance(var, Literal) else env.get(var, NONE)

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, _equation(eqn, [read(var) for var in eqn.invars], found), strict=True))
    return [read(var) for var in jaxpr.outvars]


def _equation(eqn, ins: list[Origins], found: set[int]) -> Sequence[Origins]:
    name, params = eqn.primitive.name, eqn.params
    if name == "scan":
        consts, carries = scan_parts(eqn)
        # one turn only: what is carried around is data of the program
        return _walk(params["jaxpr"], [*ins[:consts], *[NONE] * carries, *ins[consts + carries :]], found)
    if name == "while":
        tests, bodies = params["cond_nconsts"], params["body_nconsts"]
        return _walk(params["body_jaxpr"], [*ins[tests : tests + bodies], *[NONE] * len(eqn.outvars)], found)
    if name == "cond":
        found_in = [_walk(branch, ins[1:], found) for branch in branches(eqn)]
        return [NONE.union(*outs) for outs in zip(*found_in, strict=True)]
    if (body := called(eqn)) is not None:
        return _walk(body, ins, found)
    if name in ROOTS:
        found |= ins[0]
    # a square is positive whatever it is of
    squared = name == "mul" and eqn.invars[0] is eqn.invars[1]
    return [NONE.union(*ins) if name in KEEPING and not squared else NONE] * len(eqn.outvars)
