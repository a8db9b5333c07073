"""Primitives that sum products."""

from collections.abc import Sequence

from dwalign.program.inference.facts import Step
from dwalign.program.inference.kinds.rules.elementwise import multiplied
from dwalign.program.inference.kinds.rules.order import summed
from dwalign.program.inference.kinds.rules.registry import forbid, rule
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, matched
from dwalign.program.inference.kinds.zeros import outside, zeros

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
                summed(u, step, [one])
    for d, after in enumerate(u.slots(step.outs[0])):
        found: dict[Slot, list[Slot]] = {slot: [] for slot in after}
        for before in (side[of[d]] for side, of in zip(operands, dims, strict=True) if d in of):
            for slot, own in matched(u, step, before, after):
                if own is not None:
                    found[slot].append(own)
        for slot, present in found.items():
            if present:
                multiplied(u, step, slot, present)
            else:
                u.fix(step, slot)


@rule("dot_general")
def dot(u, step):
    _dot(u, step, step.eqn.params["dimension_numbers"])


@rule("ragged_dot_general")
def ragged_dot(u, step):
    """Rows of the first with the matrices, in the second, of the stretches that they lie in; both are numbered."""
    numbers = step.eqn.params["ragged_dot_dimension_numbers"]
    (pairs, _), (batch, _) = numbers.dot_dimension_numbers
    if {*numbers.lhs_ragged_dimensions} & {*pairs, *batch}:
        return forbid(u, step)
    u.fix(step, *(slot for k in numbers.rhs_group_dimensions for slot in u.slots(step.ins[1])[k]))
    return _dot(u, step, numbers.dot_dimension_numbers, numbers.rhs_group_dimensions)


def _dot(u: Unknowns, step: Step, numbers, picked: Sequence[int] = ()) -> None:
    (pairs_l, pairs_r), (batch_l, batch_r) = numbers
    left, right = (len(one.dims) for one in step.ins[:2])
    free_l = [k for k in range(left) if k not in (*pairs_l, *batch_l)]
    free_r = [k for k in range(right) if k not in (*pairs_r, *batch_r, *picked)]
    first = dict(enumerate([*batch_l, *free_l]))
    second = dict(enumerate(batch_r)) | {len(batch_l) + len(free_l) + d: k for d, k in enumerate(free_r)}
    pairs = list(zip(pairs_l, pairs_r, strict=True))
    _contracted(u, step, _met(u, step, pairs), pairs, (first, second))


def _met(u: Unknowns, step: Step, pairs: Sequence[tuple[int, int]]) -> tuple[list[list[Slot]], list[list[Slot]]]:
    """The places of both operands; of what is summed over those where neither is zero."""
    one, other, *_ = step.ins
    left, right = list(u.slots(one)), list(u.slots(other))
    for k, m in pairs:
        if (gone := zeros(u, one, k) | zeros(u, other, m)).any():
            left[k], right[m] = outside(u, one, k, gone), outside(u, other, m, gone)
    return left, right


@rule("conv_general_dilated")
def convolve(u, step):
    """The channels of each group are summed over; which group they are of is a product unit by unit."""
    params = step.eqn.params
    numbers = params["dimension_numbers"]
    (batch, features, *space), (outputs, inputs, *_) = numbers.lhs_spec, numbers.rhs_spec
    (out_batch, out_features, *out_space) = numbers.out_spec
    if params["batch_group_count"] > 1:
        return forbid(u, step)
    left, right = _met(u, step, [(features, inputs)] if params["feature_group_count"] == 1 else [])
    channels, summed = left[features], {slot.group for slot in right[inputs]}
    if params["feature_group_count"] == 1:
        summed |= {slot.group for slot in channels}
    left[features] = [slot for slot in channels if slot.group not in summed]
    left.append([slot for slot in channels if slot.group in summed])
    first = {out_batch: batch, out_features: features, **dict(zip(out_space, space, strict=True))}
    return _contracted(u, step, (left, right), [(len(left) - 1, inputs)], (first, {out_features: outputs}))
