"""The walk over a jaxpr, into everything that it calls."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from dwalign.symmetry.inference.atoms import Atom, Reason, fresh, leaves, pin, tie
from dwalign.symmetry.inference.facts import CONSTANT, Dims, Facts, Occurrence, Origin, Place
from dwalign.symmetry.inference.families import families
from dwalign.symmetry.inference.rules import RULES, shapes, unknown

INPUT = Reason("an input of the program")
OUTPUT = Reason("an output of the program")
UNUSED = Reason("not used by the program")
# what neither computes with a value nor puts it beside others
MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "reshape", "slice", "split", "squeeze"}
MOVES |= {"stop_gradient", "transpose", "unstack"}


def walk_program(closed: ClosedJaxpr, arguments: int) -> tuple[Facts, list[Dims]]:
    """All facts about a program whose first `arguments` inputs are parameters, and the dimensions of these."""
    facts, jaxpr = Facts(), closed.jaxpr
    params = [_fresh_dims(var.aval.shape, owners=1 << k) for k, var in enumerate(jaxpr.invars[:arguments])]
    inputs = [_fresh_dims(var.aval.shape, INPUT) for var in jaxpr.invars[arguments:]]
    values = [
        *(Occurrence(dims, (), None, False) for dims in params),
        *(Occurrence(dims, (), (-1 - k, 0), True) for k, dims in enumerate(inputs)),
    ]
    facts.occurrences += values
    for out in _walk(facts, closed, values, (), (), True):
        _pin_all(out.dims, OUTPUT)
    _pin_unused(facts, params)
    return facts, params


def _pin_unused(facts: Facts, params: Sequence[Dims]) -> None:
    """Pin positions that the program only moves or cuts off, such as those of embeddings for longer inputs.

    The function does not depend on them, but the same weights with other inputs may. What lies beside them goes with
    what lies beside the others.
    """
    used = {leaf for dims in facts.used for atom in dims if atom is not None for leaf in leaves(atom)}
    for atom in (atom for dims in params for atom in dims if atom is not None):
        for family in list(families(atom)):
            if not used.issuperset(leaves(family)):
                tie(family)
        for leaf in leaves(atom):
            if leaf not in used:
                pin(leaf, UNUSED)


def _pin_all(dims: Dims, why: Reason) -> None:
    for atom in dims:
        if atom is not None:
            pin(atom, why)


def _fresh_dims(shape, why: Reason | None = None, owners: int = 0) -> Dims:
    return [None if n == 1 else fresh(n, why, owners) for n in shape]


def _constant_dims(value: Any) -> Dims:
    """A constant pins the dimensions along which it varies."""
    if not hasattr(value, "shape") or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return _fresh_dims(np.shape(value), CONSTANT)
    array = np.asarray(value)
    return [
        None if n == 1 else fresh(n, None if n == 0 or np.all(array == array.take([0], d)) else CONSTANT)
        for d, n in enumerate(array.shape)
    ]


def _walk(facts: Facts, closed, values, place: Place, loops: tuple[Atom, ...], observable: bool) -> list[Occurrence]:
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    consts = closed.consts if isinstance(closed, ClosedJaxpr) else ()
    env: dict[Any, Occurrence] = {}
    for var, value in zip(jaxpr.constvars, consts, strict=True):
        env[var] = Occurrence(_constant_dims(value), loops, None, False)
        facts.occurrences.append(env[var])
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(var) -> Occurrence:
        return Occurrence(_constant_dims(var.val), loops, None, False) if isinstance(var, Literal) else env[var]

    for number, eqn in enumerate(jaxpr.eqns):
        ins = [read(var) for var in eqn.invars]
        here = (*place, number)
        outs = _apply(facts, eqn, ins, here, loops, observable)
        data = any(operand.data for operand in ins)
        for k, (var, dims) in enumerate(zip(eqn.outvars, outs, strict=True)):
            env[var] = Occurrence(dims, loops, (*here, k) if observable else None, data)
            facts.origins[*here, k] = Origin(eqn.primitive.name, ins)
            facts.occurrences.append(env[var])
    return [read(var) for var in jaxpr.outvars]


def _apply(facts: Facts, eqn, ins, here: Place, loops, observable) -> list[Dims]:
    name, body = eqn.primitive.name, called(eqn)
    if name in CONTROL or body is not None:
        facts.calls.append(eqn)
        if name in CONTROL:
            outs = CONTROL[name](facts, eqn, ins, here, loops, observable)
        else:
            outs = [out.dims for out in _walk(facts, body, ins, here, loops, observable)]
        facts.calls.pop()
        return outs
    if name not in RULES:
        facts.unknown.setdefault(name, facts.reason(eqn))
    facts.operands = ins
    if name not in MOVES:
        facts.used += [operand.dims for operand in ins]
    return RULES.get(name, unknown)(facts, eqn, [operand.dims for operand in ins])


def called(eqn) -> ClosedJaxpr | Jaxpr | None:
    """The program that a call-like equation (jit, remat, custom derivatives, ...) runs on its operands, or None."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        body = eqn.params.get(key)
        if isinstance(body, ClosedJaxpr | Jaxpr) and eqn.primitive.name not in (*CONTROL, "pallas_call"):
            inner = body.jaxpr if isinstance(body, ClosedJaxpr) else body
            # a combiner of scalars (reduce) or the part of one device (shard_map) is not the program on these operands
            if shapes(inner.invars) == shapes(eqn.invars) and shapes(inner.outvars) == shapes(eqn.outvars):
                return body
    return None


def scan_parts(eqn) -> tuple[int, int]:
    """Numbers of constants and of carried values of a scan."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].unpack()
    return len(list(consts)), len(list(carry))


def _scan(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Dims]:
    consts, carries = scan_parts(eqn)
    fixed, carry, xs = ins[:consts], ins[consts : consts + carries], ins[consts + carries :]
    length = eqn.params["length"]
    loop = None if length == 1 else fresh(length, facts.reason(eqn, "runs over it"))
    for x in xs:
        facts.unify(loop, x.dims[0], eqn)
    inner = loops if loop is None else (*loops, loop)
    rows = [x._replace(dims=x.dims[1:], loops=inner, place=None) for x in xs]
    # what is carried is data: it differs between turns; it is observed where the turn before computes it
    state = [one._replace(place=(*here, -1 - k) if observable else None, data=True) for k, one in enumerate(carry)]
    # what does not change from turn to turn occurs inside without the loop: nothing may be permuted anew in each turn
    facts.occurrences += [one._replace(loops=inner, place=None) for one in fixed]
    outs = _walk(facts, eqn.params["jaxpr"], [*fixed, *state, *rows], here, inner, observable)
    for before, after in zip(state, outs, strict=False):
        _unify_all(facts, before.dims, after.dims, eqn)
        if before.place is not None:
            facts.carried[before.place] = after
    return [*(out.dims for out in outs[:carries]), *([loop, *out.dims] for out in outs[carries:])]


def _while(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Dims]:
    tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    carry = ins[tests + bodies :]
    _walk(facts, eqn.params["cond_jaxpr"], [*ins[:tests], *carry], here, loops, False)
    outs = _walk(facts, eqn.params["body_jaxpr"], [*ins[tests : tests + bodies], *carry], here, loops, False)
    for before, after in zip(carry, outs, strict=True):
        _unify_all(facts, before.dims, after.dims, eqn)
    return [out.dims for out in outs]


def _cond(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Dims]:
    branches = [_walk(facts, body, ins[1:], here, loops, False) for body in eqn.params["branches"]]
    for other in branches[1:]:
        for one, two in zip(branches[0], other, strict=True):
            _unify_all(facts, one.dims, two.dims, eqn)
    return [out.dims for out in branches[0]]


def _unify_all(facts: Facts, one: Dims, two: Dims, eqn) -> None:
    for x, y in zip(one, two, strict=True):
        facts.unify(x, y, eqn)


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
