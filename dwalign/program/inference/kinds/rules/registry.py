"""One rule a primitive: what an equation asks of the exponents of its operands and results.

A rule is `rule(u, step)`. What no rule is for leaves nothing free but the order of units.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from dwalign.program.inference.atoms import is_uniform
from dwalign.program.inference.facts import Occurrence, Step
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots
from dwalign.program.inference.tables import register_in

Rule = Callable[[Unknowns, Step], None]
RULES: dict[str, Rule] = {}
rule = register_in(RULES)


def apply_rule(u: Unknowns, step: Step) -> None:
    if any(map(is_identity, step.outs)):
        # each use of it counts
        return
    for one in step.ins:
        shown = step.name == "convert_element_type" and is_identity(one)
        if one.dtype is not None and not jnp.issubdtype(one.dtype, jnp.inexact) and not shown:
            # whole numbers and truth values would not stay what they are
            u.fix(step, *all_slots(u.slots(one)))
    if any(any(u.slots(one)) for one in (*step.ins, *step.outs)):
        RULES.get(step.name, forbid)(u, step)


def is_identity(one: Occurrence) -> bool:
    """Whether a truth value says that two positions are the same one, those of its two dimensions."""
    if one.origin is None or one.origin.primitive != "eq":
        return False
    along = [
        [d for d, atom in enumerate(side.dims) if atom is not None and not is_uniform(atom)]
        for side in one.origin.operands
        if side.positions is not None and side.positions.kind == "own"
    ]
    return len(along) == 2 and along[0] != along[1] and all(len(dims) == 1 for dims in along)


def forbid(u: Unknowns, step: Step) -> None:
    for one in (*step.ins, *step.outs):
        u.fix(step, *all_slots(u.slots(one)))


def hand_on(u: Unknowns, step: Step, out: Slot, ins: Sequence[Slot]) -> None:
    """Whether the result is a vector or a product of two; one of each kind is neither."""
    made = [u.products[slot.unknown] for slot in ins if slot.unknown in u.products]
    if made:
        u.products[out.unknown] = made[0]
        if len(made) < len(ins):
            u.touch(made[0], out)
