"""Rows in stretches: those of the first expert, those of the second, as ragged products take them.

Which expert a row has is then said twice, by the sorted numbers of the experts and by how many rows each of them has.
Both are the same choice, so that units meet which one of them picked and the other: products and biases.
"""

from collections.abc import Callable, Sequence

from dwalign.program.inference.facts import Facts, Occurrence, Positions

# the same entries in the same order, with other dimensions of size 1 or in another type
SAME = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze", "stop_gradient"}


def stretches(
    facts: Facts, eqn, operands: Sequence[Occurrence], positions: Sequence[Positions | None], outs: Sequence[int]
) -> None:
    """Note what a result says of which expert each row has; `outs` are the numbers of the results."""
    if (find := FINDS.get(eqn.primitive.name)) is None:
        return
    held = [facts.held.get(one.number, one.number) for one in operands]
    find(facts, eqn, operands, held, positions, outs)


def chosen(facts: Facts, number: int) -> tuple | int:
    """What says which expert each row has: what they are sorted by, for counts and for sorted numbers."""
    by = facts.stretches.get(facts.held.get(number, number))
    return number if by is None else ("sorted", by)


def _same(facts, eqn, operands, held, positions, outs) -> None:
    before, after = ([n for n in var.aval.shape if n > 1] for var in (eqn.invars[0], eqn.outvars[0]))
    if before == after:
        facts.held[outs[0]] = held[0]


def _bounded(facts, eqn, operands, held, positions, outs) -> None:
    """Bounds that hold do nothing: what is left is positions."""
    if positions[0] is not None:
        (k,) = (k for k, one in enumerate(operands) if one.positions is not None)
        facts.held[outs[0]] = held[k]


def _selected(facts, eqn, operands, held, positions, outs) -> None:
    """No position is negative."""
    if operands[0].positions is not None and operands[0].positions.kind == "never":
        facts.held[outs[0]] = held[1]


def _sorted(facts, eqn, operands, held, positions, outs) -> None:
    if eqn.params["num_keys"] == 1 and len(operands[0].dims) == 1:
        for one, number in zip(operands[1:], outs[1:], strict=True):
            if one.positions is not None and one.positions.kind == "own":
                facts.orders[number] = held[0]


def _taken(facts, eqn, operands, held, positions, outs) -> None:
    if len(operands[0].dims) == 1 and facts.orders.get(held[1]) == held[0]:
        facts.stretches[outs[0]] = held[0]


def _counted(facts, eqn, operands, held, positions, outs) -> None:
    counts, numbers, ones = operands
    known = facts.known.get(ones.number)
    whole = numbers.positions is not None and numbers.positions.kind == "at"
    if whole and len(counts.dims) == 1 and counts.number in facts.zeros and known is not None and (known == 1).all():
        facts.stretches[outs[0]] = held[1]


FINDS: dict[str, Callable[..., None]] = {
    **dict.fromkeys(SAME, _same),
    **dict.fromkeys(("max", "min", "clamp"), _bounded),
    "select_n": _selected,
    "sort": _sorted,
    "gather": _taken,
    "scatter-add": _counted,
}
