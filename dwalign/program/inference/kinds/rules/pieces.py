"""Primitives that put arrays beside one another or take them apart."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.places import within
from dwalign.program.inference.kinds.rules.layout import moved, pair
from dwalign.program.inference.kinds.rules.registry import rule
from dwalign.program.inference.kinds.unknowns import Unknowns


@rule("pad")
def pad(u, step):
    operand, filling = step.ins
    padded = [d for d, around in enumerate(step.eqn.params["padding_config"]) if around != (0, 0, 0)]
    for d, (before, after) in enumerate(zip(u.slots(operand), u.slots(step.outs[0]), strict=True)):
        # places that the operand lacks are filled; so is what lies beside those that it has
        pair(u, step, filling, before, after)
        if not u.is_zero(filling) and padded not in ([], [d]):
            u.fix(step, *after)


@rule("stack")
def stack(u, step):
    axis, out = step.eqn.params["axis"], step.outs[0]
    dims = {d: d - (d > axis) for d in range(len(out.dims)) if d != axis}
    moved(u, step, out, [(one, dims) for one in step.ins])


@rule("unstack")
def unstack(u, step):
    axis, rank = step.eqn.params["axis"], len(step.ins[0].dims)
    for k, out in enumerate(step.outs):
        cut(u, step, out, {axis: slice(k, k + 1)}, [d for d in range(rank) if d != axis])


@rule("concatenate")
def concatenate(u, step):
    axis, (out,) = step.eqn.params["dimension"], step.outs
    whole, pieces = u.slots(out), [u.slots(one) for one in step.ins]
    for one, piece in zip(step.ins, pieces, strict=True):
        for d, after in enumerate(whole):
            if d != axis:
                pair(u, step, one, piece[d], after)
    pair(u, step, out, [slot for piece in pieces for slot in piece[axis]], whole[axis])


@rule("split")
def split(u, step):
    axis, ends = step.eqn.params["axis"], np.cumsum([0, *step.eqn.params["sizes"]]).tolist()
    for out, (start, stop) in zip(step.outs, itertools.pairwise(ends), strict=True):
        cut(u, step, out, {axis: slice(start, stop)}, range(len(out.dims)))


@rule("slice")
def static_slice(u, step):
    params, (out,) = step.eqn.params, step.outs
    strides = params["strides"] or [1] * len(out.dims)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    cut(u, step, out, dict(enumerate(slice(*each) for each in bounds)), range(len(out.dims)))


def cut(u: Unknowns, step: Step, out: Occurrence, bound: Mapping[int, slice], of: Sequence[int | None]) -> None:
    """Of dimensions that are cut the places that are left; those of the result are the operand's `of` these."""
    operand, after = step.ins[0], u.slots(out)
    found = within(u, operand, bound)
    u.fix(step, *(slot for d, along in enumerate(found) if d not in of for slot in along))
    for k, outs in zip(of, after, strict=True):
        pair(u, step, operand, [] if k is None else found[k], outs)
