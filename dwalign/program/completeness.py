"""What a spec misses: units that are free and not declared, pinned positions that can be permuted, groups that are two.

Which places of a group belong together shows on two units that are equal but for some places: exchange them at one of
these. Where it is of the same units as another of them, that pairs the wrong halves; where a program is free to permute
the one without the others, nothing changes, whatever the values.
"""

import functools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from dwalign.program.inference import Program
from dwalign.program.inference.atoms import Atom, factors, find
from dwalign.program.inference.structure import parts
from dwalign.program.trial import Trial, difference
from dwalign.symmetry.spec import Note, PermutationSpec

# an effect is seen that is so many times larger than what passes as rounding
CLEAR = 10.0


class Place(NamedTuple):
    """Where an array carries a factor.

    Attributes:
      leaf: the number of the array.
      size: that of the factor.
      pick: from an array of this shape what carries the factor, with its positions along the first axis.
    """

    leaf: int
    size: int
    pick: Callable[[np.ndarray], np.ndarray]

    def indices(self, array: np.ndarray) -> np.ndarray:
        """The places in the flat array, `[size, m]`."""
        return self.pick(np.arange(array.size).reshape(array.shape)).reshape(self.size, -1)

    def dimension(self, array: np.ndarray) -> int:
        """Along which dimension the positions lie."""
        ends = np.unravel_index(self.indices(array)[:2, 0], array.shape)
        return int(np.argmax([one != two for one, two in ends]))


def find_missed(
    spec: PermutationSpec,
    program: Program,
    trial: Trial,
    limit: float,
    moderate: int,
    rng: np.random.Generator,
    patience: float,
) -> Iterator[Note]:
    """See `certify(complete=True)`; the program is that of the function, `limit` what passes as rounding in the trial.

    Where it would take more than `patience` seconds, all places of a group are taken to belong together; so are places
    on which the results do not depend at this point.
    """
    yield from _undeclared(spec, program.spec)
    leaves = jax.tree.leaves(trial.params)
    for group in spec.sizes:
        places = _carriers(spec, group)
        if len(places) * trial.of.seconds >= patience:
            continue
        seen = [place for place in places if _seen(trial, leaves, place, limit, rng)]
        sets = _together(trial, leaves, seen, limit, rng) if len(seen) > 1 else []
        several = sets if len(sets) > 1 else []
        for free in [one for one in several if _is_free(trial, leaves, one, limit, rng)][1:]:
            where = ", ".join(dict.fromkeys(spec.paths[place.leaf] for place in free))
            why = f"group {group!r} ties what is independent: it can be permuted by itself on {where}"
            yield _note(spec, trial, free[0], why)
    for reason, places in _pinned(program, moderate):
        if _is_free(trial, leaves, places, limit, rng):
            yield _note(spec, trial, places[0], reason)


def _note(spec: PermutationSpec, trial: Trial, place: Place, why: str) -> Note:
    array = jax.tree.leaves(trial.params)[place.leaf]
    return Note(spec.paths[place.leaf], place.dimension(array), place.size, why)


def _undeclared(spec: PermutationSpec, inferred: PermutationSpec) -> Iterator[Note]:
    """The dimensions of which the program leaves more free than `spec` says, in units or in how they are batched."""

    def groups(of, leaf, d):
        names = [f for f in leaf.carried(d) if f in of.sizes]
        return Counter((of.sizes[g], math.prod(of.batch_shape(g))) for g in names)

    for path, mine, found in zip(spec.paths, spec.leaves, inferred.leaves, strict=True):
        for d in range(len(found.dims)):
            for size, times in groups(inferred, found, d) - groups(spec, mine, d):
                copies = f" in {times} independent copies" if times > 1 else ""
                yield Note(path, d, size, f"not declared: the program leaves {size} units free{copies}")


def _carriers(spec: PermutationSpec, group: str) -> list[Place]:
    """All the places of a group, one for each axis of each block."""

    def pick(array, *, axes, block, axis):
        return np.moveaxis([piece for _, _, piece in axes.split(array, spec.size)][block], axis, 0)

    return [
        Place(leaf, spec.sizes[group], functools.partial(pick, axes=axes, block=block, axis=axis))
        for leaf, axes in enumerate(spec.leaves)
        for block, carried in enumerate(axes.blocks())
        for axis, factor in enumerate(carried)
        if factor == group
    ]


def _pinned(program: Program, least: int) -> Iterator[tuple[str, list[Place]]]:
    """Why each pinned factor of at least so many positions is, and all the places where parameters carry it."""

    def pick(array, *, axis, start, sizes, n):
        stretch = np.moveaxis(array, axis, 0)[start : start + math.prod(sizes)]
        return np.moveaxis(stretch.reshape(*sizes, *stretch.shape[1:]), n, 0)

    found: dict[Atom, list[Place]] = {}
    for k, dims in enumerate(program.params):
        for axis, atom in enumerate(dims):
            start = 0
            for part in _opened(atom) if atom is not None else []:
                flat = [find(factor) for factor in factors(part)]
                sizes = [leaf.size for leaf in flat]
                for n, leaf in enumerate(flat):
                    if leaf.kind == "leaf" and leaf.reason is not None and leaf.size >= least:
                        where = functools.partial(pick, axis=axis, start=start, sizes=sizes, n=n)
                        found.setdefault(leaf, []).append(Place(k, leaf.size, where))
                start += part.size
    for leaf, places in found.items():
        yield str(leaf.reason), places


def _opened(atom: Atom) -> list[Atom]:
    """The parts of a dimension, those too of which nothing is free."""
    out = []
    for part in parts(atom):
        closed = find(part).kind == "leaf" and find(part).children
        out += [inner for child in closed for inner in _opened(child)] if closed else [part]
    return out


def _is_free(trial: Trial, leaves: list, places: Sequence[Place], limit: float, rng: np.random.Generator) -> bool:
    """Can these places be permuted without a change, though each of them is seen?"""
    # a cycle through all positions, which leaves none in its place
    cycle = rng.permutation(places[0].size)
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)
    moved = list(leaves)
    for place in places:
        moved[place.leaf] = _taken(moved[place.leaf], place, order)
    return _change(trial, moved) <= limit and all(_seen(trial, leaves, place, limit, rng) for place in places)


def _seen(trial: Trial, leaves: list, place: Place, limit: float, rng: np.random.Generator) -> bool:
    """Do the results depend on the positions of this place?"""
    changed, array = list(leaves), leaves[place.leaf].copy()
    if not np.issubdtype(array.dtype, np.inexact):
        return False
    index = place.indices(array)
    array.reshape(-1)[index] *= np.exp(0.3 * rng.standard_normal((place.size, 1))).astype(np.float32)
    changed[place.leaf] = array
    return _change(trial, changed) > CLEAR * limit


def _together(
    trial: Trial, leaves: list, places: list[Place], limit: float, rng: np.random.Generator
) -> list[list[Place]]:
    """The sets of places that belong to the same units, each grown from one place by those that are tied to it."""
    one, two = rng.choice(places[0].size, 2, replace=False)
    equal, exchanged = np.arange(places[0].size), np.arange(places[0].size)
    equal[two] = one
    exchanged[[one, two]] = two, one

    def is_tied(k: int, own: list[int]) -> bool:
        alike = list(leaves)
        for other, place in enumerate(places):
            if other != k and other not in own:
                alike[place.leaf] = _taken(alike[place.leaf], place, equal)
        apart = list(alike)
        apart[places[k].leaf] = _taken(alike[places[k].leaf], places[k], exchanged)
        return difference(*(trial.of.run([*point, *trial.inputs]) for point in (alike, apart))) > limit

    sets = []
    # most are tied to what multiplies a whole layer
    rest = deque(sorted(range(len(places)), key=lambda k: -leaves[places[k].leaf].size))
    while rest:
        own, misses = [rest.popleft()], 0
        # those that are tied through others wait until these are found
        while misses < len(rest):
            k = rest.popleft()
            tied = is_tied(k, own)
            (own if tied else rest).append(k)
            misses = 0 if tied else misses + 1
        sets.append(sorted(own))
    return [[places[k] for k in own] for own in sorted(sets)]


def _change(trial: Trial, leaves: list) -> float:
    return trial.change(trial.of.treedef.unflatten(leaves))


def _taken(array: np.ndarray, place: Place, order: np.ndarray) -> np.ndarray:
    out, index = array.copy(), place.indices(array)
    out.reshape(-1)[index] = array.reshape(-1)[index[order]]
    return out
