"""Null spaces of sparse linear equations over the rationals and over the integers modulo 2."""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from dwalign.program.inference.kinds.unknowns import NOTHING, Equations, Row

Terms = dict[int, Any]
Vector = tuple[Fraction, ...]


class Field:
    """The numbers that are computed with: fractions, or 0 and 1 modulo 2."""

    def __init__(self, reduce: Callable[[Fraction], Fraction]):
        self.reduce = reduce


RATIONAL = Field(lambda number: number)
# an even denominator stands for nothing modulo 2, and no rule of signs gives one
BINARY = Field(lambda number: Fraction(number.numerator % 2))


def null_space(equations: Equations, rows: Sequence[Row], wanted: Sequence[int], field: Field) -> list[Vector]:
    """What the unknowns in `wanted` can be, as a basis; the earliest of them that are free are its 0 and 1.

    >>> from dwalign.program.inference.kinds.unknowns import Slot
    >>> equations = Equations()
    >>> equations.add([(Slot("h", k), 1) for k in (1, 2, 3)], None)
    >>> [[int(x) for x in vector] for vector in null_space(equations, equations.rows["h"], [1, 2, 3], RATIONAL)]
    [[1, 0, -1], [0, 1, -1]]
    """
    roots = [equations.find(unknown) for unknown in wanted]
    # pivots are unknowns that are not asked for, then the latest of those that are
    rank = {root: -1 - k for k, root in reversed(list(enumerate(roots)))}
    pivots: dict[int, Terms] = {}
    for row in rows:
        terms = _reduced(_gathered(equations, row, field), pivots, field)
        if terms:
            pivot = min(terms, key=lambda unknown: (unknown in rank, rank.get(unknown, 0)))
            factor = terms.pop(pivot)
            pivots[pivot] = {unknown: field.reduce(-value / factor) for unknown, value in terms.items()}
    solved = functools.cache(lambda root: _reduced({root: Fraction(1)}, pivots, field))
    found = {root: {u: value for u, value in solved(root).items() if u != NOTHING} for root in roots}
    free = [root for root in dict.fromkeys(roots) if root != NOTHING and found[root] == {root: 1}]
    basis = [tuple(found[root].get(one, Fraction(0)) for root in roots) for one in free]
    return [_whole(vector) for vector in basis]


def all_ones(equations: Equations, rows: Sequence[Row], wanted: Sequence[int]) -> bool:
    """Can all of these be 1, modulo 2?"""
    basis = null_space(equations, rows, wanted, BINARY)
    # a free unknown is 1 in one vector of the basis only, so that all of these add up to what is looked for
    return bool(basis) and all(sum(column) % 2 == 1 for column in zip(*basis, strict=True))


def first_without(equations: Equations, rows: Sequence[Row], wanted: Sequence[int], field: Field) -> Row | None:
    """The equation, in the order of the program, after which nothing is free any more; None where something is.

    Of those that allow no factor at one place: the others only say which places go together.
    """
    together = [row for row in rows if len(row.terms) > 1]
    alone = [row for row in rows if len(row.terms) == 1]
    if null_space(equations, rows, wanted, field):
        return None
    low, high = 0, len(alone)
    while low < high:
        middle = (low + high) // 2
        if null_space(equations, together + alone[:middle], wanted, field):
            low = middle + 1
        else:
            high = middle
    return alone[low - 1] if low else None


def _gathered(equations: Equations, row: Row, field: Field) -> Terms:
    out: Terms = {}
    for unknown, factor in row.terms.items():
        root = equations.find(unknown)
        out[root] = out.get(root, Fraction(0)) + factor
    return {root: value for root, factor in out.items() if root != NOTHING and (value := field.reduce(factor))}


def _reduced(terms: Terms, pivots: dict[int, Terms], field: Field) -> Terms:
    terms = dict(terms)
    while known := [unknown for unknown in terms if unknown in pivots]:
        for unknown in known:
            factor = terms.pop(unknown, Fraction(0))
            for other, value in pivots[unknown].items():
                total = field.reduce(terms.get(other, Fraction(0)) + factor * value)
                if total:
                    terms[other] = total
                else:
                    terms.pop(other, None)
    return terms


def _whole(vector: Vector) -> Vector:
    """The same direction in the smallest whole numbers."""
    shared = math.lcm(*(value.denominator for value in vector))
    return tuple(value * shared for value in vector)
