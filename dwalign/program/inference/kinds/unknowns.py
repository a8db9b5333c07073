"""The unknowns: an exponent for every place at which a value carries a group, and the equations between them."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from dwalign.program.inference.atoms import Atom, leaves
from dwalign.program.inference.facts import Facts, Occurrence, Step

NOTHING = 0


class Slot(NamedTuple):
    """A place at which a value carries a group, and the number of the unknown there."""

    group: str
    unknown: int


class Row(NamedTuple):
    """The unknowns times these factors add up to zero."""

    terms: dict[int, Fraction]
    step: Step | None


class Equations:
    """Over one field: unknowns that are equal are one, other equations are rows, by group. Unknown 0 is zero."""

    def __init__(self) -> None:
        self.links: dict[int, int] = {}
        self.rows: dict[str, list[Row]] = {}

    def find(self, unknown: int) -> int:
        root = unknown
        while (up := self.links.get(root)) is not None:
            root = up
        while unknown != root:
            self.links[unknown], unknown = root, self.links[unknown]
        return root

    def same(self, one: int, other: int) -> None:
        one, other = self.find(one), self.find(other)
        if one != other:
            self.links[max(one, other)] = min(one, other)

    def add(self, terms: Sequence[tuple[Slot, int | Fraction]], step: Step | None) -> None:
        """The unknowns of one group, each times its factor, add up to zero."""
        total: dict[int, Fraction] = {}
        for slot, factor in terms:
            total[slot.unknown] = total.get(slot.unknown, Fraction(0)) + factor
        self.rows.setdefault(terms[0][0].group, []).append(Row(total, step))


class Unknowns:
    """What is found out on the way.

    `groups` maps leaves to the name of the group that they stand for, None for those that another stands for.
    `products` are the unknowns of values that are products of two vectors, unit by unit, with what made them: they may
    be summed.
    `vanishing` says for values along which dimensions they are zero, and where (`zeros`);
    `touched` says for groups that are no vector spaces by which step they are treated unit by unit.
    """

    def __init__(self, facts: Facts, groups: Mapping[Atom, str | None]) -> None:
        self.facts, self.groups = facts, groups
        self.scale, self.sign = Equations(), Equations()
        self.products: dict[int, Step] = {}
        self.touched: dict[str, Step] = {}
        self.vanishing: dict[int, dict[int, np.ndarray]] = {}
        self._numbers: dict[tuple[int, int, str, int], int] = {}
        self._slots: dict[int, list[list[Slot]]] = {}

    def slots(self, one: Occurrence) -> list[list[Slot]]:
        """Of every dimension of a value, in order."""
        if one.number not in self._slots:
            self._slots[one.number] = [
                [] if atom is None else self._of(one.number, d, atom) for d, atom in enumerate(one.dims)
            ]
        return self._slots[one.number]

    def _of(self, number: int, dimension: int, atom: Atom) -> list[Slot]:
        seen: dict[str, int] = {}
        out = []
        for leaf in leaves(atom):
            if (group := self.groups.get(leaf)) is not None:
                key = number, dimension, group, seen.setdefault(group, 0)
                seen[group] += 1
                out.append(Slot(group, self._numbers.setdefault(key, len(self._numbers) + 1)))
        return out

    def is_zero(self, one: Occurrence) -> bool:
        """Without entries there is nothing that is not."""
        if one.number in self.facts.zeros or any(atom is not None and atom.size == 0 for atom in one.dims):
            return True
        return any(mask.all() for mask in self.vanishing.get(one.number, {}).values())

    def is_blank(self, one: Occurrence) -> bool:
        """Zeros, or what is filled in before something is written (`fills`): factors leave it what it is."""
        return one.number in self.facts.fills or self.is_zero(one)

    def same(self, one: Slot, other: Slot, *, sign: bool = True) -> None:
        self.scale.same(one.unknown, other.unknown)
        if sign:
            self.sign.same(one.unknown, other.unknown)

    def add(self, step: Step, *terms: tuple[Slot, int | Fraction], sign: bool = True) -> None:
        """The exponents, each times its factor, add up to zero."""
        self.scale.add(terms, step)
        if sign:
            self.sign.add(terms, step)

    def zero(self, step: Step, *slots: Slot, scale: bool = True, sign: bool = True) -> None:
        """No factor may be here."""
        for slot in slots:
            for equations in (self.scale,) * scale + (self.sign,) * sign:
                equations.add([(slot, 1)], step)

    def touch(self, step: Step, *slots: Slot) -> None:
        """The units are treated one by one."""
        for slot in slots:
            self.touched.setdefault(slot.group, step)

    def without_signs(self, rule: Callable[["Unknowns", Step], None], step: Step) -> None:
        """Of signs another equation is known."""
        kept, self.sign = self.sign, Equations()
        rule(self, step)
        self.sign = kept

    def fix(self, step: Step, *slots: Slot) -> None:
        """Nothing but the order of the units is free."""
        self.zero(step, *slots)
        self.touch(step, *slots)


def all_slots(dims: Sequence[Sequence[Slot]]) -> list[Slot]:
    return [slot for along in dims for slot in along]


def matched(u: Unknowns, step: Step, ins: Sequence[Slot], outs: Sequence[Slot]) -> Iterator[tuple[Slot, Slot | None]]:
    """Each place of a result with its place in an operand, None where that does not carry the group.

    In order, group by group; where their numbers differ nobody can tell and nothing is free.
    """
    for group in dict.fromkeys(slot.group for slot in (*ins, *outs)):
        before, after = ([slot for slot in side if slot.group == group] for side in (ins, outs))
        if before and len(before) != len(after):
            u.fix(step, *before, *after)
        else:
            yield from itertools.zip_longest(after, before)
