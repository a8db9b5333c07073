"""Where along its dimensions a value is zero: pieces of zeros beside others, and what is computed of them."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.places import positions
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns
from dwalign.program.inference.tables import register_in

# for some dimensions which of their positions are zero, whatever the positions of the others are
Masks = dict[int, np.ndarray]
Rule = Callable[[Unknowns, Step], Sequence[Masks]]
# of zeros these make zeros
KEPT = """
    abs add add_any asin asinh atan atanh cbrt ceil complex conj convert_element_type copy copy_p erf erf_inv expm1
    floor imag log1p max min name neg pvary real reduce_precision round select_n sign sin sinh sqrt square
    stop_gradient sub tan tanh
"""
RULES: dict[str, Rule] = {}
rule = register_in(RULES)


def note_zeros(u: Unknowns, step: Step) -> None:
    """Where the results of an equation are zero."""
    if step.name in RULES and any(u.is_zero(one) or one.number in u.vanishing for one in step.ins):
        for out, masks in zip(step.outs, RULES[step.name](u, step), strict=True):
            if found := {d: mask for d, mask in masks.items() if mask.any()}:
                u.vanishing[out.number] = found


def zeros(u: Unknowns, one: Occurrence, d: int) -> np.ndarray:
    """Which positions of a dimension are zero throughout."""
    size = _size(one, d)
    if u.is_zero(one):
        return np.ones(size, bool)
    return u.vanishing.get(one.number, {}).get(d, np.zeros(size, bool))


def shown(u: Unknowns, one: Occurrence, out: Occurrence, d: int) -> np.ndarray:
    """Those of an operand at the positions of the result; scalars are zero or not."""
    own = zeros(u, one, d) if len(one.dims) == len(out.dims) else np.array([u.is_zero(one)])
    return np.broadcast_to(own, _size(out, d))


def outside(u: Unknowns, one: Occurrence, d: int, gone: np.ndarray) -> list[Slot]:
    """The places along a dimension that are not all among these positions."""
    atom = one.dims[d]
    on = [] if atom is None else [on for leaf, on in positions(atom) if u.groups.get(leaf)]
    return [slot for slot, where in zip(u.slots(one)[d], on, strict=True) if not gone[where].all()]


def _size(one: Occurrence, d: int) -> int:
    atom = one.dims[d]
    return 1 if atom is None else atom.size


def _moved(u: Unknowns, one: Occurrence, dims: Mapping[int, int]) -> Masks:
    return {d: zeros(u, one, m) for d, m in dims.items()}


def _same_rank(u: Unknowns, step: Step, operands: Sequence[Occurrence]) -> list[Masks]:
    """Those of all operands in the shape of the result."""
    return [{d: shown(u, one, step.outs[0], d) for d in range(len(step.outs[0].dims))} for one in operands]


def _together(found: Sequence[Masks], how: np.ufunc) -> Masks:
    return {d: how.reduce([masks[d] for masks in found]) for d in found[0]}


@rule(KEPT)
def kept(u, step):
    operands = step.ins[1:] if step.name == "select_n" else step.ins
    return [_together(_same_rank(u, step, operands), np.logical_and)]


@rule("device_put sharding_constraint optimization_barrier")
def several(u, step):
    pairs = zip(step.ins, step.outs, strict=True)
    return [masks for one, out in pairs for masks in kept(u, step._replace(ins=[one], outs=[out]))]


@rule("integer_pow")
def whole_power(u, step):
    return kept(u, step) if step.eqn.params["y"] > 0 else [{}]


@rule("mul")
def multiplied(u, step):
    return [_together(_same_rank(u, step, step.ins), np.logical_or)]


@rule("div")
def divided(u, step):
    return _same_rank(u, step, step.ins[:1])


@rule("transpose")
def transposed(u, step):
    return [_moved(u, step.ins[0], dict(enumerate(step.eqn.params["permutation"])))]


@rule("broadcast_in_dim")
def broadcast(u, step):
    (out,), one = step.outs, step.ins[0]
    dims = {d: k for k, d in enumerate(step.eqn.params["broadcast_dimensions"])}
    return [{d: np.broadcast_to(mask, _size(out, d)) for d, mask in _moved(u, one, dims).items()}]


@rule("squeeze reduce_sum reduce_max reduce_min")
def removed(u, step):
    rank = len(step.ins[0].dims)
    gone = {k % rank for k in step.eqn.params["dimensions" if step.name == "squeeze" else "axes"]}
    return [_moved(u, step.ins[0], dict(enumerate(k for k in range(rank) if k not in gone)))]


@rule("reshape")
def reshaped(u, step):
    """A dimension stays what it is where as many positions come before it as before."""
    (out,), (one, *_) = step.outs, step.ins
    sides = [[_size(side, d) for d in range(len(side.dims))] for side in (out, one)]
    after, before = ([(math.prod(sizes[:d]), size) for d, size in enumerate(sizes)] for sizes in sides)
    return [_moved(u, one, {d: before.index(key) for d, key in enumerate(after) if key[1] > 1 and key in before})]


@rule("rev")
def reversed_(u, step):
    masks = _moved(u, step.ins[0], {d: d for d in range(len(step.ins[0].dims))})
    return [{d: mask[::-1] if d in step.eqn.params["dimensions"] else mask for d, mask in masks.items()}]


@rule("concatenate")
def concatenated(u, step):
    axis, rank = step.eqn.params["dimension"], len(step.outs[0].dims)
    along = np.concatenate([zeros(u, one, axis) for one in step.ins])
    beside = [_moved(u, one, {d: d for d in range(rank) if d != axis}) for one in step.ins]
    return [_together(beside, np.logical_and) | {axis: along}]


@rule("pad")
def padded(u, step):
    one, filling = step.ins
    out, config = {}, step.eqn.params["padding_config"]
    if any(low < 0 or high < 0 or inner for low, high, inner in config):
        return [{}]
    for d, (low, high, _) in enumerate(config):
        elsewhere = any(more != (0, 0, 0) for k, more in enumerate(config) if k != d)
        if u.is_zero(filling) or not elsewhere:
            out[d] = np.pad(zeros(u, one, d), (low, high), constant_values=u.is_zero(filling))
    return [out]


@rule("slice")
def sliced(u, step):
    params, one = step.eqn.params, step.ins[0]
    strides = params["strides"] or [1] * len(one.dims)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [{d: zeros(u, one, d)[slice(*each)] for d, each in enumerate(bounds)}]


@rule("split")
def taken_apart(u, step):
    axis, ends = step.eqn.params["axis"], np.cumsum([0, *step.eqn.params["sizes"]]).tolist()
    whole = _moved(u, step.ins[0], {d: d for d in range(len(step.ins[0].dims))})
    return [whole | {axis: whole[axis][start:stop]} for start, stop in itertools.pairwise(ends)]


@rule("dot_general")
def products(u, step):
    (pairs_l, pairs_r), (batch_l, batch_r) = step.eqn.params["dimension_numbers"]
    left, right = step.ins
    masks = [zeros(u, left, k) | zeros(u, right, m) for k, m in zip(batch_l, batch_r, strict=True)]
    masks += [zeros(u, left, k) for k in range(len(left.dims)) if k not in (*pairs_l, *batch_l)]
    masks += [zeros(u, right, m) for m in range(len(right.dims)) if m not in (*pairs_r, *batch_r)]
    return [dict(enumerate(masks))]


@rule("conv_general_dilated")
def convolved(u, step):
    """Of channels those that read zeros alone, or with kernels of zeros."""
    params, (left, right) = step.eqn.params, step.ins
    numbers = params["dimension_numbers"]
    (batch, features, *_), (outputs, *_), (out_batch, out_features, *_) = (
        numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec,
    )  # fmt: skip
    if params["batch_group_count"] > 1:
        return [{}]
    read = zeros(u, left, features).reshape(params["feature_group_count"], -1).all(1)
    made = zeros(u, right, outputs)
    return [{out_batch: zeros(u, left, batch), out_features: np.repeat(read, len(made) // len(read)) | made}]
