"""Values that may still be what a program filled them with before it wrote there: infinities, or what is no number.

Solvers collect states in arrays of infinities, of which none is left at the end. Positive factors leave an infinity
what it is. Signs and maps do not, but what is computed of it by sums and products is infinite or no number either, so
that the function has no value there; only what makes a number of it again shows which sign it had. A sum over units is
infinite where the signs of all agree, and no number where they do not: what tells these apart shows signs, too.
"""

from collections import defaultdict
from collections.abc import Sequence

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots
from dwalign.program.inference.walk import MOVES

# of infinities these make infinities, what is no number, or 0: of either sign the same
HANDING_ON = MOVES | {
    *"""
    abs add add_any concatenate conv_general_dilated cumsum div dot_general dynamic_slice dynamic_update_slice eq gather
    link mul ne neg optimization_barrier pad real reduce_sum rev scatter select_n square stack sub tile
    """.split()
}
# for a value, by its number, the groups of which its entries, or what these were summed over, may be no units
Held = dict[int, set[str]]


def fix_fills(u: Unknowns, steps: Sequence[Step]) -> None:
    """Units of which a number is made that may have been filled in have no signs, and are no vectors."""
    held = _held(u, steps)
    filled: dict[str, list[Slot]] = defaultdict(list)
    for one in (one for step in steps if held for one in step.ins):
        for slot in _of(u, one):
            if slot.group in held.get(one.number, ()):
                filled[slot.group].append(slot)
    for step in steps if held else ():
        for k, one in enumerate(step.ins):
            for group in held.get(one.number, ()):
                slots = [slot for slot in _of(u, one) if slot.group == group]
                if not _hides(step, summed=not slots) and not _hands_on(step, k, summed=not slots):
                    u.zero(step, *(slots or filled[group]), scale=False)
                    u.touch(step, *(slots or filled[group]))


def _held(u: Unknowns, steps: Sequence[Step]) -> Held:
    held: Held = {}
    before = -1
    # what a turn of a loop leaves enters the next
    while u.facts.fills and before < (now := sum(map(len, held.values()))):
        before = now
        for step in steps:
            for end in (*step.outs, *step.ins[:-1]) if step.name == "link" else step.outs:
                groups = {slot.group for slot in _of(u, end)}
                for k, one in enumerate(step.ins):
                    own = {slot.group for slot in _of(u, one)}
                    found = groups - own if one.number in u.facts.fills else set()
                    for group in held.get(one.number, ()):
                        summed = group not in own
                        if _hands_on(step, k, summed=summed) and not _hides(step, summed=summed):
                            found.add(group)
                    if found:
                        held[end.number] = held.get(end.number, set()) | found
    return held


def _hands_on(step: Step, k: int, *, summed: bool) -> bool:
    """Whether the results are infinite or no numbers where this operand is, or 0, and show no sign of it."""
    if summed and (step.name in ("eq", "ne") or (step.name == "div" and k == 1)):
        return False
    return step.name in HANDING_ON


def _hides(step: Step, *, summed: bool) -> bool:
    """Whether the results are the same whatever the signs are; sums of different signs are no numbers."""
    if step.name == "is_finite" or summed:
        return step.name == "is_finite"
    return step.name in ("abs", "square") or _is_squared(step)


def _is_squared(step: Step) -> bool:
    """Whether every entry is multiplied by itself."""
    if step.name not in ("mul", "dot_general") or step.ins[0].number != step.ins[1].number:
        return False
    if step.name == "mul":
        return True
    (left, right), (batch_l, batch_r) = step.eqn.params["dimension_numbers"]
    return (left, batch_l) == (right, batch_r) and len(left) + len(batch_l) == len(step.ins[0].dims)


def _of(u: Unknowns, one: Occurrence) -> list[Slot]:
    return all_slots(u.slots(one))
