"""Primitives that pick or replace what is at given positions."""

from dwalign.program.inference.kinds.rules.layout import pair
from dwalign.program.inference.kinds.rules.pieces import cut
from dwalign.program.inference.kinds.rules.registry import forbid, rule
from dwalign.program.inference.kinds.unknowns import all_slots
from dwalign.program.inference.rules.indexing import fixed_slice


@rule("gather dynamic_slice scatter scatter-add scatter-sub dynamic_update_slice")
def pick(u, step):
    """Rows are moved as they are; what is picked from, and what indices carry, is numbered."""
    if step.name == "scatter" and step.eqn.params["update_jaxpr"] is not None:
        # what is there is not replaced, but changed by some function
        return forbid(u, step)
    if (fixed := fixed_slice(u.facts, step.eqn, step.ins)) is not None:
        bounds, of = fixed
        return cut(u, step, step.outs[0], dict(enumerate(slice(*each) for each in bounds)), of)
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
        pair(u, step, one, all_slots(u.slots(one)), all_slots(u.slots(out)))
    # what stands for entries past the end: zero stays zero, and NaN, said or not, stays NaN
    fill = step.eqn.params.get("fill_value")
    if fill and fill == fill:
        u.fix(step, *all_slots(u.slots(out)))
    return None


@rule("scatter-max scatter-min")
def largest_at(u, step):
    """As `pick`, of units that all have the same positive factor."""
    pick(u, step)
    slots = all_slots(u.slots(step.outs[0]))
    u.touch(step, *slots)
    u.zero(step, *slots, scale=False)
