"""The walk over a jaxpr, into everything that it calls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from dwalign.program.inference.atoms import Atom, Reason, fresh, leaves, opened, pin, uniform
from dwalign.program.inference.calls import branches, called, needed, scan_parts, solved_map
from dwalign.program.inference.constants import MASK, constant_dims, fresh_dims
from dwalign.program.inference.facts import Dims, Facts, Occurrence, Origin, Place
from dwalign.program.inference.families import families
from dwalign.program.inference.known import constant_number, numbers
from dwalign.program.inference.picks import choices, of_either, of_row
from dwalign.program.inference.positions import again, count, elsewhere, together
from dwalign.program.inference.rules import RULES, shapes, unknown
from dwalign.program.inference.stretches import stretches
from dwalign.program.inference.structure import tie
from dwalign.program.inference.ties import settled, vanish

INPUT = Reason("an input of the program")
OUTPUT = Reason("an output of the program")
STATE = Reason("an output of the program that is new state: let apply return its predictions alone")
UNUSED = Reason("not used by the program")
# what neither computes with a value nor puts it beside others
MOVES = {"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "reshape", "slice", "split", "squeeze"}
MOVES |= {"stop_gradient", "transpose", "unstack"}
JIT = ("jit", "pjit")
# each result is made of one operand
APART = {"device_put", "optimization_barrier"}


def walk_program(
    closed: ClosedJaxpr, arguments: int, outputs: Sequence[Reason], masks: Mapping[int, np.ndarray]
) -> tuple[Facts, list[Dims]]:
    """All facts about a program whose first `arguments` inputs are parameters, and the dimensions of these.

    `outputs` says for each result why it is pinned, `masks` what those parameters are that are masks.
    """
    facts, jaxpr = Facts(), closed.jaxpr
    every = [var.aval.shape for var in jaxpr.invars]
    params = [fresh_dims(shape, MASK if k in masks else None, 1 << k) for k, shape in enumerate(every[:arguments])]
    inputs = [fresh_dims(shape, INPUT) for shape in every[arguments:]]
    dims = {k: one for k, one in enumerate([*params, *inputs])} | {k: constant_dims(one) for k, one in masks.items()}
    values = [Occurrence(dims[k], (), (-1 - k, 0), k >= arguments) for k in sorted(dims)]
    values = [
        value._replace(dtype=var.aval.dtype, number=facts.number())
        for var, value in zip(jaxpr.invars, values, strict=True)
    ]
    facts.occurrences += values
    for out, why in zip(_walk(facts, closed, values, (), (), True), outputs, strict=True):
        _pin_all([*out.dims, *_numbered(out)], why)
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


def _numbered(one: Occurrence) -> Sequence[Atom | None]:
    return () if one.positions is None or one.positions.kind == "never" else one.positions.atoms


def _walk(
    facts: Facts,
    closed,
    values,
    place: Place,
    loops: tuple[Atom, ...],
    observable: bool,
    wanted: Sequence[bool] | None = None,
) -> list[Occurrence]:
    """The results of a program, of those that are wanted; the others tie nothing."""
    jaxpr = closed.jaxpr if isinstance(closed, ClosedJaxpr) else closed
    consts = closed.consts if isinstance(closed, ClosedJaxpr) else ()
    env: dict[Any, Occurrence] = {}
    for var, value in zip(jaxpr.constvars, consts, strict=True):
        env[var] = Occurrence(constant_dims(value), loops, None, False, number=constant_number(facts, value))
        facts.occurrences.append(env[var])
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(var) -> Occurrence:
        if isinstance(var, Literal):
            return Occurrence(constant_dims(var.val), loops, None, False, number=constant_number(facts, var.val))
        if var not in env:
            # nobody looks at it
            dims, dtype = fresh_dims(var.aval.shape), var.aval.dtype
            env[var] = Occurrence(dims, loops, None, False, dtype, number=facts.number())
        return again(env[var])

    for number, eqn, used in _live(jaxpr, wanted)[0]:
        ins = [read(var) for var in needed(eqn)]
        here = (*place, number)
        outs = _apply(facts, eqn, ins, here, loops, observable, used)
        data = any(operand.data for operand in ins)
        for k, (var, out) in enumerate(zip(eqn.outvars, outs, strict=True)):
            env[var] = out._replace(loops=loops, place=(*here, k) if observable else None, data=data)
            facts.origins[*here, k] = Origin(eqn.primitive.name, ins)
            facts.occurrences.append(env[var])
            if out.positions is not None and out.positions.kind in ("at", "each", "columns"):
                # the units that are numbered go together with what the value goes together with, not the reverse
                facts.occurrences += [Occurrence([*out.dims, atom], loops, None, False) for atom in out.positions.atoms]
    return [read(var) for var in jaxpr.outvars]


def _live(jaxpr: Jaxpr, wanted: Sequence[bool] | None) -> tuple[list[tuple[int, Any, list[bool]]], set]:
    """The equations on which a wanted result or an effect depends, and the values; tracing keeps the others too.

    Equations come with their numbers, and which of their results are used.
    """
    wanted = [True] * len(jaxpr.outvars) if wanted is None else wanted
    alive = {var for var, on in zip(jaxpr.outvars, wanted, strict=True) if on and not isinstance(var, Literal)}
    out = []
    for number, eqn in reversed(list(enumerate(jaxpr.eqns))):
        used = [var in alive for var in eqn.outvars]
        if eqn.effects or any(used):
            operands = needed(eqn)
            if eqn.primitive.name in JIT:
                # derivatives hand on what only a solver needs
                body = eqn.params["jaxpr"].jaxpr
                inside = _live(body, used)[1]
                operands = [var for var, own in zip(operands, body.invars, strict=True) if own in inside]
            alive.update(var for var in operands if not isinstance(var, Literal))
            out.append((number, eqn, used))
    return out[::-1], alive


def _apply(facts: Facts, eqn, ins, here: Place, loops, observable, wanted: Sequence[bool]) -> list[Occurrence]:
    name, body = eqn.primitive.name, called(eqn)
    if name in CONTROL or body is not None:
        facts.calls.append(eqn)
        if name in CONTROL:
            left = CONTROL[name](facts, eqn, ins, here, loops, observable)
            outs = [one._replace(number=facts.number()) for one in left]
            for before, after in zip(left, outs, strict=True):
                facts.step(eqn, [before], [after])
        else:
            outs = _walk(facts, body, ins, here, loops, observable, wanted if name in JIT else None)
        facts.calls.pop()
        return outs
    each = [[one] for one in ins] if name in APART else [ins for _ in eqn.outvars]
    made = [
        Occurrence((), loops, None, False, var.aval.dtype, origin=Origin(name, own, eqn.params))
        for var, own in zip(eqn.outvars, each, strict=True)
    ]
    if all(0 in shape for shape in shapes(eqn.outvars)) and eqn.outvars:
        # nothing is computed
        return [
            one._replace(dims=[uniform(n) for n in shape]) for one, shape in zip(made, shapes(eqn.outvars), strict=True)
        ]
    if name not in RULES:
        facts.unknown.setdefault(name, facts.reason(eqn))
    facts.operands = ins
    fixed = name in ("gather", "dynamic_slice") and all(one.number in facts.known for one in ins[1:])
    if name not in MOVES and not fixed:
        facts.used += [operand.dims for operand in ins]
    dims = RULES.get(name, unknown)(facts, eqn, [operand.dims for operand in ins])
    positions, own = settled(facts, eqn, ins, dims), numbers(facts, eqn, ins)
    vanish(facts, eqn, ins, own)
    stretches(facts, eqn, ins, positions, own)
    found = dims, positions, own, choices(facts, eqn, ins, len(dims))
    outs = [
        one._replace(dims=d, positions=p, number=n, choices=c) for one, d, p, n, c in zip(made, *found, strict=True)
    ]
    facts.step(eqn, ins, outs, name)
    for constants in (facts.zeros, facts.fills) if name in MOVES else ():
        if ins[0].number in constants:
            constants.update(one.number for one in outs)
    return outs


def _entering(facts: Facts, eqn, carry: Sequence[Occurrence], body, consts: int) -> list[Occurrence]:
    """What a loop carries, during any turn: uniform as it may be at first, it need not be so after a turn.

    What the body hands on as it came stays what it is.
    """
    jaxpr = body.jaxpr if isinstance(body, ClosedJaxpr) else body
    out = []
    for one, before, after in zip(carry, jaxpr.invars[consts:], jaxpr.outvars, strict=False):
        if before is not after:
            count(facts, eqn, [one])
            dims = [None if atom is None else opened(atom) for atom in one.dims]
            first = one
            one = one._replace(
                dims=dims, positions=None, origin=Origin("carry", [one]), number=facts.number(), choices=()
            )
            facts.step(eqn, [first], [one])
        out.append(one)
    return out


def _carried(state: Sequence[Occurrence], here: Place, observable: bool) -> list[Occurrence]:
    """What is carried is data: it differs between turns; it is observed where the turn before computes it."""
    return [one._replace(place=(*here, -1 - k) if observable else None, data=True) for k, one in enumerate(state)]


def _leaving(facts: Facts, eqn, state: Sequence[Occurrence], outs: Sequence[Occurrence]) -> list[Occurrence]:
    """What a loop carries, after it: what leaves a turn enters the next."""
    changed = [after for before, after in zip(state, outs, strict=True) if before.positions is None]
    count(facts, eqn, changed)
    left = [
        after._replace(
            dims=facts.unify_all([before.dims, after.dims], eqn),
            positions=before.positions,
            choices=before.choices,
            number=facts.number(),
        )
        for before, after in zip(state, outs, strict=True)
    ]
    for before, after, one in zip(state, outs, left, strict=True):
        facts.step(eqn, [before, after], [one])
    return left


def _row(facts: Facts, eqn, x: Occurrence, loops, turn: int) -> Occurrence:
    """What one turn of a scan sees of the values that it runs over."""
    if x.positions is not None and (
        x.positions.ties is not None or (x.positions.kind == "columns" and len(x.dims) == 1)
    ):
        count(facts, eqn, [x])
        x = x._replace(positions=None)
    row = x._replace(
        dims=x.dims[1:],
        loops=loops,
        place=None,
        positions=elsewhere(x.positions),
        number=facts.number(),
        choices=of_row(facts, x, turn),
    )
    if x.choices:
        facts.occurrences.append(row)
    facts.step(eqn, [x], [row])
    return row


def _scan(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Occurrence]:
    consts, carries = scan_parts(eqn)
    fixed, carry, xs = ins[:consts], ins[consts : consts + carries], ins[consts + carries :]
    length, body = eqn.params["length"], eqn.params["jaxpr"]
    loop = None if length == 1 else fresh(length, facts.reason(eqn, "runs over it"))
    for x in xs:
        facts.unify(loop, x.dims[0], eqn)
    inner = loops if loop is None else (*loops, loop)
    turn = facts.number()
    rows = [_row(facts, eqn, x, inner, turn) for x in xs]
    state = _carried(_entering(facts, eqn, carry, body, consts), here, observable)
    # what does not change from turn to turn occurs inside without the loop: nothing may be permuted anew in each turn
    facts.occurrences += [one._replace(loops=inner, place=None) for one in fixed]
    outs = _walk(facts, body, [*fixed, *state, *rows], here, inner, observable)
    left = _leaving(facts, eqn, state, outs[:carries])
    facts.carried |= {one.place: out for one, out in zip(state, outs, strict=False) if one.place is not None}
    collected = []
    count(facts, eqn, [one for one in outs[carries:] if one.positions is not None and one.positions.ties is not None])
    for one in outs[carries:]:
        dims, positions = [loop, *one.dims], elsewhere(one.positions)
        collected.append(one._replace(dims=dims, positions=positions, choices=(), number=facts.number()))
        facts.step(eqn, [one], collected[-1:])
    return [*left, *collected]


def _while(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Occurrence]:
    tests, bodies = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    body = eqn.params["body_jaxpr"]
    state = _carried(_entering(facts, eqn, ins[tests + bodies :], body, bodies), here, observable)
    (test,) = _walk(facts, eqn.params["cond_jaxpr"], [*ins[:tests], *state], here, loops, False)
    outs = _walk(facts, body, [*ins[tests : tests + bodies], *state], here, loops, observable)
    for one in outs:
        # under `vmap` each example stops by itself
        facts.unify_all([test.dims, one.dims[: len(test.dims)]], eqn)
    facts.carried |= {one.place: out for one, out in zip(state, outs, strict=True) if one.place is not None}
    facts.endless.append(here)
    # there may be no turn at all
    either = [Origin("cond", pair) for pair in zip(ins[tests + bodies :], outs, strict=True)]
    left = _leaving(facts, eqn, state, outs)
    return [one._replace(origin=origin) for one, origin in zip(left, either, strict=True)]


def _cond(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Occurrence]:
    count(facts, eqn, ins[:1])
    bodies, which = branches(eqn), facts.known.get(ins[0].number)
    if which is not None:
        # the others are never taken
        bodies = [bodies[int(np.clip(which, 0, len(bodies) - 1))]]
    different = {id(body): body for body in bodies}.values()
    outs = []
    for cases in zip(*(_walk(facts, body, ins[1:], here, loops, False) for body in different), strict=True):
        one = cases[0]._replace(
            dims=facts.unify_all([one.dims for one in cases], eqn),
            positions=together(facts, eqn, cases),
            choices=of_either(facts, cases),
            origin=Origin("cond", cases),
            number=facts.number(),
        )
        facts.step(eqn, cases, [one])
        outs.append(one)
    return outs


def _linear_solve(facts: Facts, eqn, ins: Sequence[Occurrence], here, loops, observable) -> list[Occurrence]:
    """What a map takes to the right-hand sides, however it is found; or the program that finds it round by round."""
    lengths, bodies = eqn.params["const_lengths"], eqn.params["jaxprs"]
    if (body := solved_map(eqn)) is None:
        start, total = lengths.matvec + lengths.vecmat, sum(lengths)
        return _walk(facts, bodies.solve, [*ins[start : start + lengths.solve], *ins[total:]], here, loops, False)
    consts, right = ins[: lengths.matvec], ins[lengths.matvec :]
    data, origin = any(one.data for one in ins), Origin(eqn.primitive.name, ins)
    found = [
        Occurrence(fresh_dims(var.aval.shape), loops, None, data, var.aval.dtype, origin=origin, number=facts.number())
        for var in eqn.outvars
    ]
    facts.occurrences += found
    made = _walk(facts, body, [*consts, *found], here, loops, False)
    for one, other in zip(right, made, strict=True):
        facts.unify_all([one.dims, other.dims], eqn)
        facts.step(eqn, [one, other], [other])
    return found


CONTROL = {"scan": _scan, "while": _while, "cond": _cond, "custom_linear_solve": _linear_solve}
