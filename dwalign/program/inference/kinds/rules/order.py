"""Primitives along dimensions: many entries make one, or take an order."""

from collections.abc import Sequence

from dwalign.program.inference.facts import Step
from dwalign.program.inference.kinds.rules.layout import moved, pair
from dwalign.program.inference.kinds.rules.registry import rule
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots, matched


def _kept(step: Step, gone: Sequence[int]) -> dict[int, int]:
    rank = len(step.ins[0].dims)
    return dict(enumerate(k for k in range(rank) if k not in {axis % rank for axis in gone}))


def summed(u: Unknowns, step: Step, slots: Sequence[Slot]) -> None:
    """A sum over units is one number only of products of a vector with its dual."""
    u.zero(step, *slots)
    u.touch(step, *(slot for slot in slots if slot.unknown not in u.products))


@rule("reduce_sum")
def total(u, step):
    before, dims = u.slots(step.ins[0]), _kept(step, step.eqn.params["axes"])
    for d, m in dims.items():
        pair(u, step, step.ins[0], before[m], u.slots(step.outs[0])[d])
    for m, along in enumerate(before):
        if m not in dims.values():
            summed(u, step, along)


def _gone(step: Step) -> Sequence[int]:
    params = step.eqn.params
    return () if "window_dimensions" in params else params["axes"] if "axes" in params else (params["axis"],)


@rule("reduce_max reduce_min reduce_window_max reduce_window_min")
def largest(u, step):
    _order_kept(u, step, _kept(step, _gone(step)))


@rule("sort cummax cummin")
def ranked(u, step):
    """What is sorted by others changes places with them, as they do among themselves."""
    axis = step.eqn.params["dimension" if step.name == "sort" else "axis"]
    for one, out in zip(step.ins, step.outs, strict=True):
        _order_kept(u, step._replace(ins=[one], outs=[out]), {d: d for d in range(len(out.dims)) if d != axis})


@rule("top_k")
def largest_few(u, step):
    values, places = step.outs
    axis = step.eqn.params.get("axis", -1) % len(values.dims)
    _order_kept(u, step._replace(outs=[values]), {d: d for d in range(len(values.dims)) if d != axis})
    u.fix(step, *all_slots(u.slots(places)))


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


@rule("triangular_solve")
def solved(u, step):
    """Linear in every right-hand side; the matrix and its unknowns have an order."""
    (matrix, right), (out,) = step.ins, step.outs
    free = len(out.dims) - (1 if step.eqn.params["left_side"] else 2)
    u.fix(step, *all_slots(u.slots(matrix)))
    moved(u, step, out, [(right, {free: free})])
