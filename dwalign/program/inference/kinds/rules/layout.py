"""Primitives that move entries, and compute nothing."""

from collections.abc import Sequence

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.rules.elementwise import equal, places
from dwalign.program.inference.kinds.rules.registry import hand_on, rule
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots, matched


def moved(u: Unknowns, step: Step, out: Occurrence, operands: Sequence[tuple[Occurrence, dict[int, int]]]) -> None:
    """Dimension by dimension: `{dimension of the result: dimension of the operand}`; others are lost or made."""
    for operand, dims in operands:
        before, after = u.slots(operand), u.slots(out)
        lost = [slot for d, along in enumerate(before) if d not in dims.values() for slot in along]
        made = [slot for d, along in enumerate(after) if d not in dims for slot in along]
        u.fix(step, *lost, *made)
        for d, m in dims.items():
            pair(u, step, operand, before[m], after[d])


def pair(u: Unknowns, step: Step, operand: Occurrence, ins: Sequence[Slot], outs: Sequence[Slot]) -> None:
    for after, before in matched(u, step, ins, outs):
        if before is not None:
            u.same(after, before)
            hand_on(u, step, after, [before])
        elif not u.is_blank(operand):
            u.fix(step, after)


def _one(step: Step, dims: dict[int, int]) -> list[tuple[Occurrence, dict[int, int]]]:
    return [(step.ins[0], dims)]


@rule("transpose")
def transpose(u, step):
    moved(u, step, step.outs[0], _one(step, dict(enumerate(step.eqn.params["permutation"]))))


@rule("squeeze")
def squeeze(u, step):
    rank = len(step.ins[0].dims)
    gone = {k % rank for k in step.eqn.params["dimensions"]}
    moved(u, step, step.outs[0], _one(step, dict(enumerate(k for k in range(rank) if k not in gone))))


@rule("broadcast_in_dim")
def broadcast(u, step):
    kept = {d: k for k, d in enumerate(step.eqn.params["broadcast_dimensions"])}
    moved(u, step, step.outs[0], _one(step, kept))


@rule("tile rev cumsum reduce_window_sum fft")
def along(u, step):
    moved(u, step, step.outs[0], _one(step, {d: d for d in range(len(step.outs[0].dims))}))


@rule("reshape")
def reshape(u, step):
    """The order of all dimensions stays."""
    pair(u, step, step.ins[0], all_slots(u.slots(step.ins[0])), all_slots(u.slots(step.outs[0])))


@rule("link")
def link(u, step):
    """What a loop or a branch hands on; rows of what a scan runs over, and results of its turns, side by side."""
    (out,), shift = step.outs, len(step.outs[0].dims) - len(step.ins[0].dims)
    if shift == 0:
        equal(u, step, places(u, step), step.ins)
    else:
        kept = range(max(shift, 0), len(out.dims))
        moved(u, step, out, _one(step, {d: d - shift for d in kept}))
