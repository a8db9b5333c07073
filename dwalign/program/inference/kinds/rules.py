"""One rule a primitive: what an equation asks of the exponents of its operands and results.

A rule is `rule(u, step)`. What no rule is for leaves nothing free but the order of units.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.places import nothing, within
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots, matched
from dwalign.program.inference.rules.indexing import fixed_slice

Rule = Callable[[Unknowns, Step], None]
RULES: dict[str, Rule] = {}
HALF = Fraction(1, 2)
# of exponents: others would make powers of thousands
DENOMINATOR = 64


def rule(names: str) -> Callable[[Rule], Rule]:
    def register(function):
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def apply_rule(u: Unknowns, step: Step) -> None:
    for one in step.ins:
        if one.dtype is not None and not jnp.issubdtype(one.dtype, jnp.inexact):
            # whole numbers and truth values would not stay what they are
            u.fix(step, *all_slots(u.slots(one)))
    if any(any(u.slots(one)) for one in (*step.ins, *step.outs)):
        RULES.get(step.name, forbid)(u, step)


def forbid(u: Unknowns, step: Step) -> None:
    for one in (*step.ins, *step.outs):
        u.fix(step, *all_slots(u.slots(one)))


# every entry of the result is made of the entries at its place

Line = tuple[Slot, list[Slot | None]]
SUMS = ("add", "sub", "add_any")
# stands for the places where an operand of a sum is zero
NOTHING = Slot("", 0)


def _lines(u: Unknowns, step: Step, operands: Sequence[Occurrence] | None = None) -> list[Line]:
    """Each place of the result with those in the operands; scalars beside arrays carry nothing."""
    (out, *_) = step.outs
    operands = step.ins if operands is None else operands
    found: dict[Slot, list[Slot | None]] = {slot: [] for slot in all_slots(u.slots(out))}
    for operand in operands:
        dims = u.slots(operand) if len(operand.dims) == len(out.dims) else [[] for _ in out.dims]
        rows: dict[Slot, Slot | None] = {}
        for d, along in enumerate(u.slots(out)):
            empty = nothing(u, operand, out, d) if step.name in SUMS and dims[d] else set()
            rows |= dict.fromkeys(empty, NOTHING)
            rows |= dict(matched(u, step, dims[d], [slot for slot in along if slot not in empty]))
        for slot, ins in found.items():
            ins.append(rows.get(slot))
    return list(found.items())


def _hand_on(u: Unknowns, step: Step, out: Slot, ins: Sequence[Slot]) -> None:
    """Whether the result is a vector or a product of two; one of each kind is neither."""
    made = [u.products[slot.unknown] for slot in ins if slot.unknown in u.products]
    if made:
        u.products[out.unknown] = made[0]
        if len(made) < len(ins):
            u.touch(made[0], out)


def _equal(u: Unknowns, step: Step, lines: Sequence[Line], operands: Sequence[Occurrence], *, sign=True) -> None:
    """All change alike; what does not carry the group must be zero."""
    for out, ins in lines:
        present = [slot for slot in ins if slot is not None and slot is not NOTHING]
        for slot in present:
            u.same(out, slot, sign=sign)
        if any(slot is None and not u.is_zero(one) for slot, one in zip(ins, operands, strict=True)):
            u.fix(step, out)
        _hand_on(u, step, out, present)


@rule("add sub add_any neg real imag conj complex copy copy_p stop_gradient name reduce_precision pvary device_put")
def linear(u, step):
    _equal(u, step, _lines(u, step), step.ins)


@rule("sharding_constraint optimization_barrier")
def several(u, step):
    for before, after in zip(step.ins, step.outs, strict=True):
        linear(u, step._replace(ins=[before], outs=[after]))


@rule("convert_element_type")
def convert(u, step):
    """Numbers of any kind to floats are the same; floats to whole numbers are rounded."""
    exact = jnp.issubdtype(step.outs[0].dtype, jnp.inexact)
    (linear if exact else forbid)(u, step)


@rule("select_n")
def select(u, step):
    _, *cases = step.ins
    _equal(u, step, _lines(u, step, cases), cases)


@rule("max min clamp")
def homogeneous(u, step):
    for out, ins in (lines := _lines(u, step)):
        u.touch(step, out)
        u.zero(step, out, *(slot for slot in ins if slot is not None), scale=False)
    _of_one_size(u, step, lines)


def _of_one_size(u: Unknowns, step: Step, lines: Sequence[Line]) -> None:
    """The result is one of the operands, whichever is the larger or the smaller."""
    for out, ins in lines:
        for slot in (slot for slot in ins if slot is not None):
            u.same(out, slot, sign=False)
        if any(slot is None and not u.is_zero(one) for slot, one in zip(ins, step.ins, strict=True)):
            u.zero(step, out, sign=False)


@rule("clip")
def between(u, step):
    """Odd, as its bounds are opposite; these stay where they are, or have the size of the value."""
    for out, (lower, slot, upper) in (lines := _lines(u, step)):
        u.touch(step, out)
        u.zero(step, *(bound for bound in (lower, upper) if bound is not None), scale=False)
        if slot is None:
            u.zero(step, out, scale=False)
        else:
            u.sign.same(out.unknown, slot.unknown)
    _of_one_size(u, step, lines)


@rule("gt ge lt le eq ne atan2")
def compare(u, step):
    """Factors that both sides share change nothing."""
    for out, ins in _lines(u, step):
        u.touch(step, out)
        present = [slot for slot in ins if slot is not None]
        u.zero(step, out, *present, scale=False)
        u.zero(step, out, sign=False)
        for slot in present[1:]:
            u.same(present[0], slot, sign=False)
        if any(slot is None and not u.is_zero(one) for slot, one in zip(ins, step.ins, strict=True)):
            u.zero(step, *present, sign=False)


@rule("sin tan tanh asin atan sinh asinh atanh erf erf_inv bessel_i1e cbrt round")
def odd(u, step):
    for out, (slot,) in _lines(u, step):
        u.touch(step, out)
        if slot is None:
            u.fix(step, out)
            continue
        u.sign.same(out.unknown, slot.unknown)
        if step.name == "cbrt":
            u.scale.add([(out, 1), (slot, Fraction(-1, 3))], step)
        else:
            u.zero(step, out, slot, sign=False)


@rule("abs cos cosh bessel_i0e")
def even(u, step):
    for out, (slot,) in _lines(u, step):
        u.touch(step, out)
        u.zero(step, out, scale=False)
        if slot is not None and step.name == "abs":
            u.same(out, slot, sign=False)
        else:
            u.zero(step, out, *([] if slot is None else [slot]), sign=False)


@rule("sign is_finite")
def sizeless(u, step):
    for out, (slot,) in _lines(u, step):
        u.touch(step, out)
        u.zero(step, out, sign=False)
        if slot is not None and step.name == "sign":
            u.sign.same(out.unknown, slot.unknown)
        else:
            u.zero(step, out, scale=False)


@rule("mul")
def multiply(u, step):
    for out, ins in _lines(u, step):
        _multiplied(u, step, out, [slot for slot in ins if slot is not None])


def _multiplied(u: Unknowns, step: Step, out: Slot, present: Sequence[Slot]) -> None:
    if len(present) == 1:
        u.same(out, present[0])
        _hand_on(u, step, out, present)
        return
    u.add(step, (out, -1), *((slot, 1) for slot in present))
    if not present or any(slot.unknown in u.products for slot in present):
        u.touch(step, out)
    u.products[out.unknown] = step


@rule("square")
def square(u, step):
    for out, (slot,) in _lines(u, step):
        _multiplied(u, step, out, [] if slot is None else [slot, slot])


@rule("integer_pow")
def whole_power(u, step):
    exponent = step.eqn.params["y"]
    for out, (slot,) in _lines(u, step):
        if slot is not None and exponent in (1, 2):
            _multiplied(u, step, out, [slot] * exponent)
        else:
            u.touch(step, out)
            u.add(step, (out, -1), *([] if slot is None else [(slot, exponent)]))


@rule("div")
def divide(u, step):
    for out, (over, under) in _lines(u, step):
        if under is None:
            _multiplied(u, step, out, [] if over is None else [over])
        else:
            u.touch(step, out)
            u.add(step, (out, -1), (under, -1), *([] if over is None else [(over, 1)]))


@rule("sqrt rsqrt pow")
def power(u, step):
    exponent = {"sqrt": HALF, "rsqrt": -HALF}.get(step.name) or _exponent(step)
    for out, (slot, *rest) in _lines(u, step):
        if slot is None or exponent is None or any(one is not None for one in rest):
            u.fix(step, out, *(one for one in (slot, *rest) if one is not None))
            continue
        u.touch(step, out)
        u.zero(step, out, slot, scale=False)
        u.add(step, (out, -1), (slot, exponent), sign=False)


def _exponent(step: Step) -> Fraction | None:
    by = step.eqn.invars[1] if len(step.eqn.invars) > 1 else None
    value = float(by.val) if isinstance(by, Literal) and np.ndim(by.val) == 0 else math.nan
    # a third or 0.7 is no number of a computer: what stands there would change with the unit factors by another power
    exact = Fraction(value) if math.isfinite(value) else None
    return exact if exact is not None and exact.denominator <= DENOMINATOR else None


# entries move, and nothing is computed


def _moved(u: Unknowns, step: Step, out: Occurrence, operands: Sequence[tuple[Occurrence, dict[int, int]]]) -> None:
    """Dimension by dimension: `{dimension of the result: dimension of the operand}`; others are lost or made."""
    for operand, dims in operands:
        before, after = u.slots(operand), u.slots(out)
        lost = [slot for d, along in enumerate(before) if d not in dims.values() for slot in along]
        made = [slot for d, along in enumerate(after) if d not in dims for slot in along]
        u.fix(step, *lost, *made)
        for d, m in dims.items():
            _pair(u, step, operand, before[m], after[d])


def _pair(u: Unknowns, step: Step, operand: Occurrence, ins: Sequence[Slot], outs: Sequence[Slot]) -> None:
    for after, before in matched(u, step, ins, outs):
        if before is not None:
            u.same(after, before)
            _hand_on(u, step, after, [before])
        elif not u.is_zero(operand):
            u.fix(step, after)


def _one(step: Step, dims: dict[int, int]) -> list[tuple[Occurrence, dict[int, int]]]:
    return [(step.ins[0], dims)]


@rule("transpose")
def transpose(u, step):
    _moved(u, step, step.outs[0], _one(step, dict(enumerate(step.eqn.params["permutation"]))))


@rule("squeeze")
def squeeze(u, step):
    rank = len(step.ins[0].dims)
    gone = {k % rank for k in step.eqn.params["dimensions"]}
    _moved(u, step, step.outs[0], _one(step, dict(enumerate(k for k in range(rank) if k not in gone))))


@rule("broadcast_in_dim")
def broadcast(u, step):
    kept = {d: k for k, d in enumerate(step.eqn.params["broadcast_dimensions"])}
    _moved(u, step, step.outs[0], _one(step, kept))


@rule("tile rev cumsum reduce_window_sum fft")
def along(u, step):
    _moved(u, step, step.outs[0], _one(step, {d: d for d in range(len(step.outs[0].dims))}))


@rule("reshape")
def reshape(u, step):
    """The order of all dimensions stays."""
    _pair(u, step, step.ins[0], all_slots(u.slots(step.ins[0])), all_slots(u.slots(step.outs[0])))


@rule("link")
def link(u, step):
    """What a loop or a branch hands on; rows of what a scan runs over, and results of its turns, side by side."""
    (out,), shift = step.outs, len(step.outs[0].dims) - len(step.ins[0].dims)
    if shift == 0:
        _equal(u, step, _lines(u, step), step.ins)
    else:
        kept = range(max(shift, 0), len(out.dims))
        _moved(u, step, out, _one(step, {d: d - shift for d in kept}))


@rule("pad")
def pad(u, step):
    operand, filling = step.ins
    for before, after in zip(u.slots(operand), u.slots(step.outs[0]), strict=True):
        # places that the operand lacks are filled
        _pair(u, step, filling, before, after)
        if not u.is_zero(filling):
            u.fix(step, *after)


@rule("stack")
def stack(u, step):
    axis, out = step.eqn.params["axis"], step.outs[0]
    dims = {d: d - (d > axis) for d in range(len(out.dims)) if d != axis}
    _moved(u, step, out, [(one, dims) for one in step.ins])


@rule("unstack")
def unstack(u, step):
    axis, rank = step.eqn.params["axis"], len(step.ins[0].dims)
    for k, out in enumerate(step.outs):
        _cut(u, step, out, {axis: slice(k, k + 1)}, [d for d in range(rank) if d != axis])


@rule("concatenate")
def concatenate(u, step):
    axis, (out,) = step.eqn.params["dimension"], step.outs
    whole, pieces = u.slots(out), [u.slots(one) for one in step.ins]
    for one, piece in zip(step.ins, pieces, strict=True):
        for d, after in enumerate(whole):
            if d != axis:
                _pair(u, step, one, piece[d], after)
    _pair(u, step, out, [slot for piece in pieces for slot in piece[axis]], whole[axis])


@rule("split")
def split(u, step):
    axis, ends = step.eqn.params["axis"], np.cumsum([0, *step.eqn.params["sizes"]]).tolist()
    for out, (start, stop) in zip(step.outs, itertools.pairwise(ends), strict=True):
        _cut(u, step, out, {axis: slice(start, stop)}, range(len(out.dims)))


@rule("slice")
def static_slice(u, step):
    params, (out,) = step.eqn.params, step.outs
    strides = params["strides"] or [1] * len(out.dims)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    _cut(u, step, out, dict(enumerate(slice(*each) for each in bounds)), range(len(out.dims)))


def _cut(u: Unknowns, step: Step, out: Occurrence, bound: Mapping[int, slice], of: Sequence[int | None]) -> None:
    """Of dimensions that are cut the places that are left; those of the result are the operand's `of` these."""
    operand, after = step.ins[0], u.slots(out)
    found = within(u, operand, bound)
    u.fix(step, *(slot for d, along in enumerate(found) if d not in of for slot in along))
    for k, outs in zip(of, after, strict=True):
        _pair(u, step, operand, [] if k is None else found[k], outs)


@rule("gather dynamic_slice scatter scatter-add scatter-sub dynamic_update_slice")
def pick(u, step):
    """Rows are moved as they are; what is picked from, and what indices carry, is numbered."""
    if (fixed := fixed_slice(u.facts, step.eqn, step.ins)) is not None:
        bounds, of = fixed
        return _cut(u, step, step.outs[0], dict(enumerate(slice(*each) for each in bounds)), of)
    arrays = 1 if step.name in ("gather", "dynamic_slice") else 2
    updates = {"dynamic_update_slice": 1}.get(step.name, 2)
    values = [step.ins[0]] if arrays == 1 else [step.ins[0], step.ins[updates]]
    for one in step.ins:
        if not any(one is value for value in values):
            indexed = {slot.group for slot in all_slots(u.slots(one))}
            for other in (*step.ins, *step.outs):
                u.fix(step, *(slot for slot in all_slots(u.slots(other)) if slot.group in indexed))
    (out,) = step.outs
    for one in values:
        _pair(u, step, one, all_slots(u.slots(one)), all_slots(u.slots(out)))
    # what stands for entries past the end: zero stays zero, and NaN, said or not, stays NaN
    fill = step.eqn.params.get("fill_value")
    if fill and fill == fill:
        u.fix(step, *all_slots(u.slots(out)))
    return None


# many entries make one


def _kept(step: Step, gone: Sequence[int]) -> dict[int, int]:
    rank = len(step.ins[0].dims)
    return dict(enumerate(k for k in range(rank) if k not in {axis % rank for axis in gone}))


def _summed(u: Unknowns, step: Step, slots: Sequence[Slot]) -> None:
    """A sum over units is one number only of products of a vector with its dual."""
    u.zero(step, *slots)
    u.touch(step, *(slot for slot in slots if slot.unknown not in u.products))


@rule("reduce_sum")
def total(u, step):
    before, dims = u.slots(step.ins[0]), _kept(step, step.eqn.params["axes"])
    for d, m in dims.items():
        _pair(u, step, step.ins[0], before[m], u.slots(step.outs[0])[d])
    for m, along in enumerate(before):
        if m not in dims.values():
            _summed(u, step, along)


def _gone(step: Step) -> Sequence[int]:
    params = step.eqn.params
    return () if "window_dimensions" in params else params["axes"] if "axes" in params else (params["axis"],)


@rule("reduce_max reduce_min reduce_window_max reduce_window_min")
def largest(u, step):
    _order_kept(u, step, _kept(step, _gone(step)))


@rule("sort cummax cummin")
def ranked(u, step):
    """What is sorted by others changes places with them."""
    axis = step.eqn.params["dimension" if step.name == "sort" else "axis"]
    if len(step.ins) > 1:
        forbid(u, step)
    else:
        _order_kept(u, step, {d: d for d in range(len(step.outs[0].dims)) if d != axis})


def _order_kept(u: Unknowns, step: Step, dims: dict[int, int]) -> None:
    """Which entry is the larger does not change where all have the same positive factor."""
    before, after = u.slots(step.ins[0]), u.slots(step.outs[0])
    for d, m in dims.items():
        for out, slot in matched(u, step, before[m], after[d]):
            if slot is not None:
                u.touch(step, out)
                u.same(out, slot, sign=False)
                u.zero(step, out, slot, scale=False)
            elif not u.is_zero(step.ins[0]):
                u.fix(step, out)
    u.fix(step, *(slot for m, along in enumerate(before) if m not in dims.values() for slot in along))


@rule("argmax argmin")
def where_largest(u, step):
    before, dims = u.slots(step.ins[0]), _kept(step, _gone(step))
    u.fix(step, *all_slots(u.slots(step.outs[0])))
    for m, along in enumerate(before):
        u.touch(step, *along)
        u.zero(step, *along, scale=m not in dims.values())


# sums of products


Slots = Sequence[Sequence[Slot]]


def _contracted(
    u: Unknowns, step: Step, operands: tuple[Slots, Slots], pairs, dims: tuple[dict[int, int], dict[int, int]]
) -> None:
    """`pairs` of dimensions are summed over; `dims` say for both operands which of the result are theirs.

    A dimension of both is a product unit by unit.
    """
    left, right = operands
    for k, m in pairs:
        for one, other in matched(u, step, left[k], right[m]):
            if other is not None:
                u.add(step, (one, 1), (other, 1))
                for slot in (slot for slot in (one, other) if slot.unknown in u.products):
                    u.touch(u.products[slot.unknown], slot)
            else:
                _summed(u, step, [one])
    for d, after in enumerate(u.slots(step.outs[0])):
        found: dict[Slot, list[Slot]] = {slot: [] for slot in after}
        for before in (side[of[d]] for side, of in zip(operands, dims, strict=True) if d in of):
            for slot, own in matched(u, step, before, after):
                if own is not None:
                    found[slot].append(own)
        for slot, present in found.items():
            if present:
                _multiplied(u, step, slot, present)
            else:
                u.fix(step, slot)


@rule("dot_general")
def dot(u, step):
    (pairs_l, pairs_r), (batch_l, batch_r) = step.eqn.params["dimension_numbers"]
    left, right = (len(one.dims) for one in step.ins)
    free_l = [k for k in range(left) if k not in (*pairs_l, *batch_l)]
    free_r = [k for k in range(right) if k not in (*pairs_r, *batch_r)]
    first = dict(enumerate([*batch_l, *free_l]))
    second = dict(enumerate(batch_r)) | {len(batch_l) + len(free_l) + d: k for d, k in enumerate(free_r)}
    both = u.slots(step.ins[0]), u.slots(step.ins[1])
    _contracted(u, step, both, list(zip(pairs_l, pairs_r, strict=True)), (first, second))


@rule("conv_general_dilated")
def convolve(u, step):
    """The channels of each group are summed over; which group they are of is a product unit by unit."""
    params = step.eqn.params
    numbers = params["dimension_numbers"]
    (batch, features, *space), (outputs, inputs, *_) = numbers.lhs_spec, numbers.rhs_spec
    (out_batch, out_features, *out_space) = numbers.out_spec
    if params["batch_group_count"] > 1:
        return forbid(u, step)
    left, right = list(u.slots(step.ins[0])), u.slots(step.ins[1])
    channels, summed = left[features], {slot.group for slot in right[inputs]}
    if params["feature_group_count"] == 1:
        summed |= {slot.group for slot in channels}
    left[features] = [slot for slot in channels if slot.group not in summed]
    left.append([slot for slot in channels if slot.group in summed])
    first = {out_batch: batch, out_features: features, **dict(zip(out_space, space, strict=True))}
    return _contracted(u, step, (left, right), [(len(left) - 1, inputs)], (first, {out_features: outputs}))
