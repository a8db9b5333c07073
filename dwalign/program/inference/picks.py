"""Whose units a value holds where an index picked them: those of the expert that a token was sent to.

A row of `up[idx]` holds the hidden units of one expert. The value has no dimension of experts, but it goes by one: its
units change places as those of the expert that `idx` names in this row. Where values meet that the same index picked,
position by position, the units of each expert can be permuted by themselves; where they do not, all experts share one
permutation. Two computations of an index are the same where the same primitives made them of the same values.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dwalign.program.inference.atoms import Atom, find, is_uniform, leaves
from dwalign.program.inference.facts import Choice, Dims, Facts, Index, Occurrence
from dwalign.program.inference.marks import marked
from dwalign.program.inference.rules import shapes
from dwalign.program.inference.stretches import chosen

# the number of an index, and the dimensions of the equation that run along with its own
Key = tuple[int, tuple[Atom | None, ...]]


class Pick(NamedTuple):
    """An operand of which one position of `axis` is picked: that which a column of the operand `by` says.

    `rows` are the dimensions of the index, each an axis of an operand.
    """

    operand: int
    axis: int
    by: int
    column: int | None
    rows: Sequence[tuple[int, int]]


def choices(facts: Facts, eqn, operands: Sequence[Occurrence], outs: int) -> list[tuple[Choice, ...]]:
    """What the dimensions of the results go by; units that meet others which go by something else do not."""
    picks = PICKS.get(eqn.primitive.name, lambda eqn: [])(eqn)
    if not picks and not any(one.choices for one in operands):
        return [()] * outs
    marks, made = marked(facts, eqn, operands)
    cut = eqn.primitive.name == "slice"
    goes: list[dict[int, dict[Key, Atom]]] = [{} for _ in operands]
    for dims, one, out in zip(marks, operands, goes, strict=True):
        beside = made[0] if cut else dims
        for choice in one.choices:
            number = _stretch(facts, eqn, choice) if cut else choice.number
            key = number, tuple(None if k is None else _leaf(beside[k]) for k in choice.along)
            out.setdefault(choice.axis, {})[key] = choice.source
    along: set[Atom] = set()
    for pick in picks:
        source = operands[pick.operand].dims[pick.axis]
        if source is None:
            continue
        by, column = _column(facts, operands[pick.by], pick.column)
        which = chosen(facts, by.number)
        number = facts.number((which, 0 if isinstance(which, tuple) else column, source.size))
        if any(operand != pick.by for operand, _ in pick.rows):
            # the sizes of consecutive stretches of rows say it of each row, and are not it
            by = by._replace(place=None)
        source = facts.unify(facts.indexed.setdefault(number, Index(source, by, column)).source, source, eqn)
        rows = tuple(_leaf(marks[k][axis]) for k, axis in pick.rows)
        along.update(row for row in rows if row is not None)
        for axis, mark in enumerate(marks[pick.operand]):
            if axis != pick.axis and _leaf(mark) not in rows:
                goes[pick.operand].setdefault(axis, {})[number, rows] = source
    agreed = _agreed(facts, operands, marks, goes)
    return [tuple(_kept(dims, agreed, along)) for dims in made]


def _leaf(atom: Atom | None) -> Atom | None:
    return None if atom is None else find(atom)


def _stretch(facts: Facts, eqn, choice: Choice) -> int:
    """The number of the part of an index that goes with a slice of a value."""
    ends = list(zip(eqn.params["start_indices"], eqn.params["limit_indices"], *shapes(eqn.invars), strict=True))
    taken = tuple(ends[k] for k in choice.along if k is not None)
    whole = all(start == 0 and stop == size for start, stop, size in taken)
    return choice.number if whole else facts.number((choice.number, taken))


def _column(facts: Facts, index: Occurrence, column: int | None) -> tuple[Occurrence, int | None]:
    """A column of index vectors; those of several values side by side are these."""
    apart = facts.columns.get(index.number)
    return (index, column) if apart is None or column is None else (apart[column], 0)


def _agreed(facts: Facts, operands, marks, goes) -> dict[Atom, dict[Key, Atom]]:
    """For each dimension of the equation what all operands that have it go by there."""
    agreed: dict[Atom, dict[Key, Atom]] = {}
    for one, dims, by in zip(operands, marks, goes, strict=True):
        for axis, (atom, mark) in enumerate(zip(one.dims, dims, strict=True)):
            if atom is None or mark is None or is_uniform(atom):
                continue
            here = by.get(axis, {})
            for leaf in leaves(mark):
                before = agreed.setdefault(leaf, here)
                facts.separated += [(atom, (here | before)[key]) for key in here.keys() ^ before.keys()]
                agreed[leaf] = {key: source for key, source in here.items() if key in before}
    return agreed


def _kept(dims: Dims, agreed: dict[Atom, dict[Key, Atom]], along: set[Atom]):
    """The choices of a result: those of its dimensions of which all that they run along with is still there."""
    found = [[] if atom is None else leaves(atom) for atom in dims]
    times = Counter(itertools.chain.from_iterable(found))
    place: dict[Atom | None, int | None] = {None: None}
    for axis, (first, *more) in ((axis, inside) for axis, inside in enumerate(found) if inside):
        if not more and times[first] == 1 and (first.reason is None or first in along):
            place[first] = axis
    for axis, inside in enumerate(found):
        by = {key: source for leaf in inside for key, source in agreed.get(leaf, {}).items()}
        for (number, rows), source in by.items():
            if place.keys() >= set(rows):
                yield Choice(axis, source, number, tuple(place[row] for row in rows))


def of_either(facts: Facts, cases: Sequence[Occurrence]) -> tuple[Choice, ...]:
    """What a value goes by that is one of these, along the dimensions that are not uniform."""
    kept: list[Choice] = []
    for axis, atoms in enumerate(zip(*(one.dims for one in cases), strict=True)):
        having = [
            (atom, {choice: None for choice in one.choices if choice.axis == axis})
            for one, atom in zip(cases, atoms, strict=True)
            if atom is not None and not is_uniform(atom)
        ]
        found = {choice: None for _, own in having for choice in own}
        shared = [choice for choice in found if all(choice in own for _, own in having)]
        facts.separated += [(atom, choice.source) for atom, own in having for choice in own if choice not in shared]
        kept += shared
    return tuple(kept)


def of_row(facts: Facts, one: Occurrence, turn: int) -> tuple[Choice, ...]:
    """What a value goes by of which a loop takes one row after the other: in each turn a row of the index."""
    return tuple(
        choice._replace(
            axis=choice.axis - 1,
            number=facts.number((choice.number, "row", turn)) if 0 in choice.along else choice.number,
            along=tuple(k - 1 if k else None for k in choice.along),
        )
        for choice in one.choices
        if choice.axis
    )


def _gathered(eqn) -> list[Pick]:
    rows = [(1, k) for k in range(len(eqn.invars[1].aval.shape) - 1)]
    columns, sizes = eqn.params["dimension_numbers"].start_index_map, eqn.params["slice_sizes"]
    return [Pick(0, axis, 1, column, rows) for column, axis in enumerate(columns) if sizes[axis] == 1]


def _sliced(eqn) -> list[Pick]:
    return [Pick(0, axis, 1 + axis, None, ()) for axis, size in enumerate(eqn.params["slice_sizes"]) if size == 1]


def _ragged(eqn) -> list[Pick]:
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    rows = [(0, axis) for axis in numbers.lhs_ragged_dimensions]
    return [Pick(1, axis, 2, None, rows) for axis in numbers.rhs_group_dimensions]


PICKS: dict[str, Callable[..., list[Pick]]] = {
    "gather": _gathered,
    "dynamic_slice": _sliced,
    "ragged_dot_general": _ragged,
}
