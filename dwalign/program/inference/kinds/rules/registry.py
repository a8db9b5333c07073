"""One rule a primitive: what an equation asks of the exponents of its operands and results.

A rule is `rule(u, step)`. What no rule is for leaves nothing free but the order of units.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from dwalign.program.inference.facts import Step
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns, all_slots

Rule = Callable[[Unknowns, Step], None]
RULES: dict[str, Rule] = {}


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


def hand_on(u: Unknowns, step: Step, out: Slot, ins: Sequence[Slot]) -> None:
    """Whether the result is a vector or a product of two; one of each kind is neither."""
    made = [u.products[slot.unknown] for slot in ins if slot.unknown in u.products]
    if made:
        u.products[out.unknown] = made[0]
        if len(made) < len(ins):
            u.touch(made[0], out)
