"""Primitives of which every entry of the result is made of the entries at its place."""

import math
from collections.abc import Sequence
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.parity import EVEN, ODD, Mirrored
from dwalign.program.inference.kinds.rules.registry import forbid, hand_on, is_identity, rule
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots, matched
from dwalign.program.inference.kinds.zeros import outside, shown

HALF = Fraction(1, 2)
# of exponents: others would make powers of thousands
DENOMINATOR = 64
Line = tuple[Slot, list[Slot | None]]
# all operands of these change alike, and zeros change with all of them
ALIKE = ("add", "add_any", "select_n", "sub")
# stands for the places where an operand is zero
NOTHING = Slot("", 0)


def places(u: Unknowns, step: Step, operands: Sequence[Occurrence] | None = None) -> list[Line]:
    """Each place of the result with those in the operands; scalars beside arrays carry nothing."""
    (out, *_) = step.outs
    operands = step.ins if operands is None else operands
    found: dict[Slot, list[Slot | None]] = {slot: [] for slot in all_slots(u.slots(out))}
    for operand in operands:
        rows: dict[Slot, Slot | None] = {}
        for d, along in enumerate(u.slots(out) if len(operand.dims) == len(out.dims) else ()):
            before, after = u.slots(operand)[d], along
            if step.name in ALIKE and (gone := shown(u, operand, out, d)).any():
                before, after = (outside(u, one, d, gone) for one in (operand, out))
                rows |= dict.fromkeys(along, NOTHING)
            rows |= dict(matched(u, step, before, after))
        for slot, ins in found.items():
            ins.append(rows.get(slot))
    return list(found.items())


def equal(u: Unknowns, step: Step, lines: Sequence[Line], operands: Sequence[Occurrence], *, sign=True) -> None:
    """All change alike; what does not carry the group must be blank."""
    for out, ins in lines:
        present = [slot for slot in ins if slot is not None and slot is not NOTHING]
        for slot in present:
            u.same(out, slot, sign=sign)
        if any(slot is None and not u.is_blank(one) for slot, one in zip(ins, operands, strict=True)):
            u.fix(step, out)
        hand_on(u, step, out, present)


@rule("add sub add_any neg real imag conj complex copy copy_p stop_gradient name reduce_precision pvary")
def linear(u, step):
    equal(u, step, places(u, step), step.ins)


@rule("device_put sharding_constraint optimization_barrier")
def several(u, step):
    for before, after in zip(step.ins, step.outs, strict=True):
        linear(u, step._replace(ins=[before], outs=[after]))


@rule("convert_element_type")
def convert(u, step):
    """Numbers of any kind to floats are the same; floats to whole numbers are rounded."""
    if is_identity(step.ins[0]):
        return _identity(u, step)
    exact = jnp.issubdtype(step.outs[0].dtype, jnp.inexact)
    return (linear if exact else forbid)(u, step)


def _identity(u: Unknowns, step: Step) -> None:
    """Of vectors and their duals."""
    sides = [along for along in u.slots(step.outs[0]) if along]
    if len(sides) == 2 and [slot.group for slot in sides[0]] == [slot.group for slot in sides[1]]:
        for one, other in zip(*sides, strict=True):
            u.add(step, (one, 1), (other, 1))
    else:
        forbid(u, step)


@rule("select_n")
def select(u, step):
    _, *cases = step.ins
    equal(u, step, places(u, step, cases), cases)


@rule("max min clamp")
def homogeneous(u, step):
    if len({one.number for one in step.ins}) == 1:
        # of a value and itself
        return linear(u, step)
    for out, ins in (lines := places(u, step)):
        u.touch(step, out)
        u.zero(step, out, *(slot for slot in ins if slot is not None), scale=False)
    return _of_one_size(u, step, lines)


@rule("clip")
def between(u, step):
    """Odd, as its bounds are opposite; these stay where they are, or have the size of the value."""
    for out, (lower, slot, upper) in (lines := places(u, step)):
        u.touch(step, out)
        u.zero(step, *(bound for bound in (lower, upper) if bound is not None), scale=False)
        if slot is None:
            u.zero(step, out, scale=False)
        else:
            u.sign.same(out.unknown, slot.unknown)
    _of_one_size(u, step, lines)


def _of_one_size(u: Unknowns, step: Step, lines: Sequence[Line]) -> None:
    """The result is one of the operands, whichever is the larger or the smaller."""
    for out, ins in lines:
        for slot in (slot for slot in ins if slot is not None):
            u.same(out, slot, sign=False)
        if any(slot is None and not u.is_blank(one) for slot, one in zip(ins, step.ins, strict=True)):
            u.zero(step, out, sign=False)


@rule("gt ge lt le eq ne atan2")
def compare(u, step):
    """Factors that both sides share change nothing, but that signs turn what is larger into what is smaller."""
    ordered = step.name not in ("eq", "ne")
    for out, ins in places(u, step):
        u.touch(step, out)
        present = [slot for slot in ins if slot is not None]
        u.zero(step, out)
        if ordered:
            u.zero(step, *present, scale=False)
        for slot in present[1:]:
            u.same(present[0], slot, sign=not ordered)
        if any(slot is None and not u.is_zero(one) for slot, one in zip(ins, step.ins, strict=True)):
            u.zero(step, *present)


@rule(ODD)
def odd(u, step):
    for out, (slot,) in places(u, step):
        u.touch(step, out)
        if slot is None:
            u.fix(step, out)
            continue
        u.sign.same(out.unknown, slot.unknown)
        if step.name == "cbrt":
            u.scale.add([(out, 1), (slot, Fraction(-1, 3))], step)
        else:
            u.zero(step, out, slot, sign=False)


@rule(EVEN)
def even(u, step):
    for out, (slot,) in places(u, step):
        u.touch(step, out)
        u.zero(step, out, scale=False)
        if slot is not None and step.name == "abs":
            u.same(out, slot, sign=False)
        else:
            u.zero(step, out, *([] if slot is None else [slot]), sign=False)


def as_a_whole(u: Unknowns, step: Step, found: Mirrored) -> None:
    """The result of several steps is an odd or even function of a value."""
    for out, (slot,) in places(u, step._replace(name="", ins=[found.x])):
        if slot is None or not found.odd:
            u.zero(step, out, scale=False)
        else:
            u.sign.same(out.unknown, slot.unknown)


@rule("sign is_finite")
def sizeless(u, step):
    for out, (slot,) in places(u, step):
        u.touch(step, out)
        u.zero(step, out, sign=False)
        if slot is not None and step.name == "sign":
            u.sign.same(out.unknown, slot.unknown)
        else:
            u.zero(step, out, scale=False)


@rule("mul")
def multiply(u, step):
    for out, ins in places(u, step):
        multiplied(u, step, out, [slot for slot in ins if slot is not None])


def multiplied(u: Unknowns, step: Step, out: Slot, present: Sequence[Slot]) -> None:
    if len(present) == 1:
        u.same(out, present[0])
        hand_on(u, step, out, present)
        return
    u.add(step, (out, -1), *((slot, 1) for slot in present))
    if not present or any(slot.unknown in u.products for slot in present):
        u.touch(step, out)
    u.products[out.unknown] = step


@rule("square")
def square(u, step):
    for out, (slot,) in places(u, step):
        multiplied(u, step, out, [] if slot is None else [slot, slot])


@rule("integer_pow")
def whole_power(u, step):
    exponent = step.eqn.params["y"]
    for out, (slot,) in places(u, step):
        if slot is not None and exponent in (1, 2):
            multiplied(u, step, out, [slot] * exponent)
        else:
            u.touch(step, out)
            u.add(step, (out, -1), *([] if slot is None else [(slot, exponent)]))


@rule("div")
def divide(u, step):
    for out, (over, under) in places(u, step):
        if under is None:
            multiplied(u, step, out, [] if over is None else [over])
        else:
            u.touch(step, out)
            u.add(step, (out, -1), (under, -1), *([] if over is None else [(over, 1)]))


@rule("sqrt rsqrt pow")
def power(u, step):
    exponent = {"sqrt": HALF, "rsqrt": -HALF}.get(step.name) or _exponent(step)
    for out, (slot, *rest) in places(u, step):
        if slot is None or exponent is None or any(one is not None for one in rest):
            u.fix(step, out, *(one for one in (slot, *rest) if one is not None))
            continue
        u.touch(step, out)
        u.zero(step, out, slot, scale=False)
        u.add(step, (out, -1), (slot, exponent), sign=False)


def _exponent(step: Step) -> Fraction | None:
    by = step.eqn.invars[1] if len(step.eqn.invars) > 1 else None
    value = float(by.val) if isinstance(by, Literal) and np.ndim(by.val) == 0 and np.isrealobj(by.val) else math.nan
    # a third or 0.7 is no number of a computer: what stands there would change with the unit factors by another power
    exact = Fraction(value) if math.isfinite(value) else None
    return exact if exact is not None and exact.denominator <= DENOMINATOR else None
