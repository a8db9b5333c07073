"""Which gains, shifts and statistics go into the matrices beside them, and the numbers that these become.

Of a value that a product made, such as what batch normalisation takes from a convolution, gain and shift go back: into
the columns of the matrix and into the first array that is added, be it the bias of the layer or the shift of the
normalisation. Of any other value they go on: into the rows and the biases of all products that read it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from dwalign.program.folding.follow import Roles, mapped
from dwalign.program.folding.scales import Atom, End, Made, Scales, Term, Value, find_scales

NEAR = 1e-6


class Gains(NamedTuple):
    """Attributes:
    neutral: for each array that was folded, by number, what all its entries are now.
    notes: `(number of an array, why it stays)`.
    reads: for each entry of the parameters the column of a product in which it is, or -1 where it is used otherwise.
    """

    neutral: dict[int, float]
    notes: list[tuple[int, str]]
    reads: np.ndarray


class After(NamedTuple):
    """What is done to `number` times the result of a product, with arrays `[batch * free]`.

    Attributes:
      bias: the number of the term that takes all of the shift, times 1, an array of parameters and gains behind it.
    """

    number: float
    gain: tuple[Atom, ...]
    shift: tuple[Term, ...]
    bias: int | None


def fold_gains(program: ClosedJaxpr, sizes: Sequence[int], entries: np.ndarray) -> Gains:
    """Fold, changing `entries`: those of all parameters one after the other, in double precision."""
    plan = _Plan(find_scales(program, len(sizes)), np.concatenate([[0], np.cumsum(sizes, dtype=int)]))
    neutral = plan.neutral()
    stays = plan.stays(neutral, entries)
    for number in range(len(plan.scales.readers)):
        plan.fold(number, stays, entries)
    folded = {leaf: value for leaf, value in neutral.items() if leaf not in stays}
    for leaf, value in folded.items():
        entries[plan.borders[leaf] : plan.borders[leaf + 1]] = value
    notes = [(leaf, stays[leaf]) for leaf in sorted(plan.gains & set(stays))]
    return Gains(folded, notes, _columns(plan.scales, len(entries)))


def _columns(scales: Scales, size: int) -> np.ndarray:
    out, first = np.full(size, -1), 0
    for reader in scales.readers:
        blocks, _, free = reader.kernel.shape
        out[reader.kernel] = first + np.arange(blocks * free).reshape(blocks, 1, free)
        first += blocks * free
    for index in scales.others:
        out[index[index >= 0]] = -1
    return out


class _Plan:
    """What is known of a program before its numbers are seen.

    `borders` are those of the arrays among all entries, `gains` the arrays that multiply values, `after` what is done
    to the result of each product where that is one thing.
    """

    def __init__(self, scales: Scales, borders: np.ndarray) -> None:
        self.scales, self.borders = scales, borders
        self.gains = {
            leaf
            for gain in (*(end.value.gain for end in scales.ends), *(reader.gain for reader in scales.readers))
            for atom in gain
            for leaf in self.leaves(atom.index)
        }
        ends: dict[int, list[End]] = {}
        for end in scales.ends:
            if end.value.made is not None:
                ends.setdefault(end.value.made.by, []).append(end)
        self.after = {number: self._after(number, those) for number, those in ends.items()}
        self.roles = Roles(int(borders[-1]))
        self._give_roles()

    def leaves(self, index: np.ndarray) -> set[int]:
        """The arrays that these entries are of."""
        index = index[index >= 0]
        first, last = (np.searchsorted(self.borders, end, side="right") - 1 for end in (index.min(), index.max()))
        if first == last:
            return {int(first)}
        return {int(leaf) for leaf in np.unique(np.searchsorted(self.borders, index, side="right") - 1)}

    def _is_gain(self, atom: Atom) -> bool:
        return self.leaves(atom.index) <= self.gains

    def _array(self, term: Term) -> np.ndarray | None:
        """The entries that a term consists of, up to gains."""
        others = [atom for atom in term.atoms if not self._is_gain(atom)]
        return others[0].index if len(others) == 1 and others[0][1:] == (0, 1) else None

    def _after(self, number: int, ends: Sequence[End]) -> After | None:
        """What all ends together say, of which each may be a piece; None where they differ or say too little."""
        size = self.scales.readers[number].kernel[:, 0].size
        found = [self._after_one(end.value, size) for end in ends]
        whole = functools.reduce(lambda one, other: one and other and mapped(_either, one, other), found)
        return whole if whole is not None and all((index >= 0).all() for index in _arrays(whole)) else None

    def _after_one(self, value: Value, size: int) -> After | None:
        made = value.made
        assert made is not None
        shift = value.shift if value.gain else value.shift[:1]
        gain, shift = mapped(lambda index: _by_result(index, made, size), (value.gain, shift))
        if not all(isinstance(index, np.ndarray) for index in _arrays((gain, shift))):
            return None
        # what scales all of it in the end does not matter, such as the sign that GELU takes of it
        sign = np.copysign(1.0, made.number)
        takes = [k for k, term in enumerate(shift) if sign * term.number > 0 and self._array(term) is not None]
        unit = shift[takes[0]].number if takes else sign
        shift = tuple(term._replace(number=term.number / unit) for term in shift)
        return After(made.number / unit, gain, shift, takes[0] if takes else None)

    def _bias(self, number: int) -> np.ndarray | None:
        """The entries of what is added to the result of a product."""
        after = self.after.get(number)
        return None if after is None or after.bias is None else self._array(after.shift[after.bias])

    def _give_roles(self) -> None:
        for index in self.scales.others:
            self.roles.give(index, "other")
        biases: dict[int, set[int]] = {}
        for number, reader in enumerate(self.scales.readers):
            self.roles.give(reader.kernel, ("kernel", number), once=True)
            self._give(reader.gain, reader.shift)
            if (bias := self._bias(number)) is not None:
                self.roles.give(bias, ("bias", number), once=True)
                biases[number] = self.leaves(bias)
        for end in self.scales.ends:
            bias = biases.get(end.value.made.by, set()) if end.value.made else set()
            self._give(end.value.gain, [term for term in end.value.shift if not bias & self._shifts(term)])

    def _give(self, gain: Sequence[Atom], shift: Sequence[Term]) -> None:
        for atom in (*gain, *(atom for term in shift for atom in term.atoms)):
            self.roles.give(atom.index, "gain" if self._is_gain(atom) else "shift")

    def _shifts(self, term: Term) -> set[int]:
        return {leaf for atom in term.atoms if not self._is_gain(atom) for leaf in self.leaves(atom.index)}

    def _all(self, gain: Sequence[Atom], shift: Sequence[Term]) -> set[int]:
        atoms = (*gain, *(atom for term in shift for atom in term.atoms))
        return {leaf for atom in atoms for leaf in self.leaves(atom.index)}

    def before(self, number: int) -> set[int]:
        """The arrays that go if gain and shift of what a product reads go into it."""
        reader = self.scales.readers[number]
        return self._all(reader.gain, reader.shift)

    def behind(self, number: int) -> set[int]:
        """The arrays that go if the gain of what a product made goes back into it."""
        after = self.after.get(number)
        if after is None or not after.gain:
            return set()
        return self._all(after.gain, after.shift) - (
            set() if after.bias is None else self._shifts(after.shift[after.bias])
        )

    def neutral(self) -> dict[int, float]:
        """What the arrays that can be folded become: gains 1, with what is added to them, and all others 0."""
        numbers = range(len(self.scales.readers))
        out = {leaf: 0.0 for number in numbers for leaf in self.before(number) | self.behind(number)}
        for gain in (*(end.value.gain for end in self.scales.ends), *(one.gain for one in self.scales.readers)):
            out |= {leaf: 1 - atom.added for atom in gain for leaf in self.leaves(atom.index) if leaf in out}
        return out

    def _vanishes(self, gain: Sequence[Atom], shift: Sequence[Term], neutral: Mapping[int, float]) -> bool:
        """Whether nothing is left of gain and shift where the arrays have become what they shall."""
        left = lambda atom: [neutral.get(leaf, np.nan) + atom.added for leaf in self.leaves(atom.index)]
        one = all(abs(value - 1) < NEAR for atom in gain for value in left(atom))
        return one and all(any(not any(left(atom)) and atom.power > 0 for atom in term.atoms) for term in shift)

    def stays(self, neutral: Mapping[int, float], entries: np.ndarray) -> dict[int, str]:
        """The arrays that cannot be folded, and why."""
        out: dict[int, str] = {}

        def keep(leaves: Iterable[int], why: str) -> None:
            for leaf in leaves:
                out.setdefault(leaf, why)

        for end in self.scales.ends:
            leaves = self._all(end.value.gain, end.value.shift)
            if end.value.made is None and end.reader is None:
                keep(leaves, f"what it scales or shifts goes to {end.why}, where no matrix can take it")
            elif end.value.made is not None and end.value.gain and self.after[end.value.made.by] is None:
                keep(leaves, "the result of the product before it is used in other ways, too")
        for number, reader in enumerate(self.scales.readers):
            before, behind, after = self.before(number), self.behind(number), self.after.get(number)
            if not self.roles.has(reader.kernel, ("kernel", number)):
                keep(before | behind, "the matrix beside it is used elsewhere, too")
            if not self._vanishes(reader.gain, reader.shift, neutral):
                keep(before, "it is used in two ways")
            if self._shift(reader.shift, entries).any() and not self._has_bias(number):
                keep(before, "a product that reads it has no bias of its own to take the shift")
            if after is not None and behind:
                others = [term for k, term in enumerate(after.shift) if k != after.bias]
                if not self._vanishes(after.gain, others, neutral):
                    keep(behind, "it is used in two ways")
                if after.shift and not self._has_bias(number):
                    keep(behind, "nothing that is added once behind the product before it can take its shift")
        for leaf in neutral:
            role = "gain" if leaf in self.gains else "shift"
            if not self.roles.has(np.arange(*self.borders[leaf : leaf + 2]), role):
                keep([leaf], "some of its entries are used in other ways, or not at all")
        # what is folded together stays together
        groups = [group(number) for number in range(len(self.scales.readers)) for group in (self.before, self.behind)]
        while torn := [group for group in groups if group & set(out) and not group <= set(out)]:
            for group in torn:
                keep(group, out[min(group & set(out))])
        return out

    def _has_bias(self, number: int) -> bool:
        bias = self._bias(number)
        return bias is not None and self.roles.has(bias, ("bias", number))

    def _shift(self, terms: Sequence[Term], entries: np.ndarray) -> np.ndarray:
        return sum((term.number * _power(term.atoms, entries) for term in terms), np.zeros(()))

    def fold(self, number: int, stays: Mapping[int, str], entries: np.ndarray) -> None:
        """Into one matrix and its bias."""
        reader, after = self.scales.readers[number], self.after.get(number)
        kernel, bias = entries[reader.kernel], 0.0
        if not self.before(number) & set(stays):
            shift = np.broadcast_to(self._shift(reader.shift, entries), kernel.shape[:2])
            bias = reader.number * np.einsum("bc,bcf->bf", shift, kernel).ravel()
            kernel = kernel * np.broadcast_to(_power(reader.gain, entries), kernel.shape[:2])[..., None]
        into = self._bias(number)
        if after is not None and after.gain and not self.behind(number) & set(stays):
            gain = _power(after.gain, entries)
            if into is not None:
                entries[into] = self._shift(after.shift, entries) + gain * after.number * bias
            kernel = kernel * gain.reshape(len(kernel), 1, -1)
        elif after is not None and after.bias is not None and into is not None and np.any(bias):
            # gains that come before the bias do not scale it
            first = after.gain[: len(after.gain) - len(after.shift[after.bias].atoms) + 1]
            entries[into] += _power(first, entries) * after.number * bias
        entries[reader.kernel] = kernel


def _by_result(index: np.ndarray, made: Made, size: int) -> np.ndarray | None:
    """An array by the entries of the result of a product; -1 where it does not say, None where it says two things."""
    out, inside = np.full(size, -1, np.int32), made.index >= 0
    out[made.index[inside]] = index[inside]
    return out if (out[made.index[inside]] == index[inside]).all() else None


def _either(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What either says, -2 where they contradict each other."""
    apart = (one != other) & (one >= 0) & (other >= 0)
    return np.where(apart | (one == -2) | (other == -2), -2, np.maximum(one, other))


def _arrays(tree: Any) -> list:
    """The arrays of a tree, and what came in their place."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None or isinstance(leaf, Atom))
    return [leaf.index for leaf in leaves if isinstance(leaf, Atom)]


def _power(atoms: Sequence[Atom], entries: np.ndarray) -> np.ndarray:
    out = np.ones(())
    for atom in atoms:
        out = out * (entries[atom.index] + atom.added) ** atom.power
    return out
