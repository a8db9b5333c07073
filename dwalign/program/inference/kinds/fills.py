"""Values that may still be what a program filled them with before it wrote there: infinities, or what is no number.

Solvers collect states in arrays of infinities, of which none is left at the end. Positive factors leave an infinity
what it is. Signs and maps do not, but what is computed of it by sums and products is infinite or no number either, so
that the function has no value there; only what makes a number of it again shows which sign it had.
"""

from collections.abc import Sequence

from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots
from dwalign.program.inference.walk import MOVES

# of infinities these make infinities, what is no number, or 0: of either sign the same
HANDING_ON = MOVES | {
    *"""
    abs add add_any concatenate conv_general_dilated cumsum div dot_general dynamic_slice dynamic_update_slice eq gather
    is_finite link mul ne neg optimization_barrier pad real reduce_sum rev scatter select_n square stack sub tile
    """.split()
}
# a value, by its number, and a group of which its entries may be no units
Held = set[tuple[int, str]]


def fix_fills(u: Unknowns, steps: Sequence[Step]) -> None:
    """Units of which a number is made that may have been filled in have no signs, and are no vectors."""
    held = _held(u, steps)
    for step in steps if held else ():
        if step.name not in HANDING_ON:
            slots = [slot for one in step.ins for slot in _of(u, one) if (one.number, slot.group) in held]
            u.zero(step, *slots, scale=False)
            u.touch(step, *slots)


def _held(u: Unknowns, steps: Sequence[Step]) -> Held:
    held: Held = set()
    before = -1
    # what a turn of a loop leaves enters the next
    while u.facts.fills and before < len(held):
        before = len(held)
        for step in steps:
            for end in (*step.outs, *step.ins[:-1]) if step.name == "link" else step.outs:
                groups = {slot.group for slot in _of(u, end)}
                for one in step.ins if groups else ():
                    entered = one.number in u.facts.fills and groups - {slot.group for slot in _of(u, one)}
                    handed = step.name in HANDING_ON and {group for group in groups if (one.number, group) in held}
                    held |= {(end.number, group) for group in (*(entered or ()), *(handed or ()))}
    return held


def _of(u: Unknowns, one: Occurrence) -> list[Slot]:
    return all_slots(u.slots(one))
