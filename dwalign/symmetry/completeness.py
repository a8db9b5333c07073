"""What a spec misses: units that are free and not declared, pinned positions that can be permuted, groups that are two.

Which places of a group belong together shows on two units that are equal but for two places: exchange them at one of
the two. Where both places are of the same units, that pairs the wrong halves; where a program is free to permute one
without the other, nothing changes, whatever the values.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.symmetry.axes import Axes
from dwalign.symmetry.inference import Program, read_program
from dwalign.symmetry.inference.atoms import Atom, factors, find, parts
from dwalign.symmetry.spec import Note, PermutationSpec
from dwalign.symmetry.trial import Trial, difference

PyTree = Any
# an effect is seen that is so many times larger than what passes as rounding
CLEAR = 10.0


class Place(NamedTuple):
    """Where an array carries a factor: axis `axis` of leaf `leaf`, from position `start` on, holds outer x size x inner."""

    leaf: int
    axis: int
    start: int
    outer: int
    size: int
    inner: int


def find_missed(
    spec: PermutationSpec,
    apply: Callable,
    params: PyTree,
    inputs: Sequence,
    trial: Trial,
    limit: float,
    moderate: int,
    rng: np.random.Generator,
    patience: float,
) -> Iterator[Note]:
    """See `certify(complete=True)`; `limit` is what passes as rounding in the trial.

    Where it would take more than `patience` seconds, all places of a group are taken to belong together.
    """
    program = read_program(apply, params, *inputs)
    yield from _undeclared(spec, program.spec)
    for group in spec.sizes:
        places = [place for k, axes in enumerate(spec.leaves) for place in _carried(spec, k, axes, group)]
        for free in list(_free(trial, places, limit, rng, patience))[1:]:
            first = spec.paths[free[0].leaf], free[0].axis, free[0].size
            where = ", ".join(dict.fromkeys(spec.paths[place.leaf] for place in free))
            yield Note(*first, f"group {group!r} ties what is independent: it can be permuted by itself on {where}")
    for note, places in _pinned(program, moderate):
        for free in _free(trial, places, limit, rng, patience):
            yield note._replace(path=spec.paths[free[0].leaf], dimension=free[0].axis)


def _undeclared(spec: PermutationSpec, inferred: PermutationSpec) -> Iterator[Note]:
    """The dimensions of which the program leaves more free than `spec` says, in units or in how they are batched."""

    def groups(of, leaf, d):
        names = [f for part in leaf.dims[d] for f in part if f in of.sizes]
        return Counter((of.sizes[g], math.prod(of.batch_shape(g))) for g in names)

    for path, mine, found in zip(spec.paths, spec.leaves, inferred.leaves, strict=True):
        for d in range(len(found.dims)):
            for size, times in groups(inferred, found, d) - groups(spec, mine, d):
                copies = f" in {times} independent copies" if times > 1 else ""
                yield Note(path, d, size, f"not declared: the program leaves {size} units free{copies}")


def _carried(spec: PermutationSpec, leaf: int, axes: Axes, group: str) -> Iterator[Place]:
    for axis, dim in enumerate(axes.dims):
        start = 0
        for part in dim:
            sizes = [1 if f is None else spec.size(f) for f in part]
            for n, factor in enumerate(part):
                if factor == group:
                    yield Place(leaf, axis, start, math.prod(sizes[:n]), sizes[n], math.prod(sizes[n + 1 :]))
            start += math.prod(sizes)


def _pinned(program: Program, least: int) -> Iterator[tuple[Note, list[Place]]]:
    """Each pinned factor of at least so many positions, with all the places where parameters carry it."""
    found: dict[Atom, tuple[Note, list[Place]]] = {}
    for k, dims in enumerate(program.params):
        for axis, atom in enumerate(dims):
            start = 0
            for part in parts(atom) if atom is not None else []:
                flat = [find(factor) for factor in factors(part)]
                sizes = [leaf.size for leaf in flat]
                for n, leaf in enumerate(flat):
                    if leaf.kind == "leaf" and leaf.reason is not None and leaf.size >= least:
                        note = Note(program.spec.paths[k], axis, leaf.size, str(leaf.reason))
                        place = Place(k, axis, start, math.prod(sizes[:n]), leaf.size, math.prod(sizes[n + 1 :]))
                        found.setdefault(leaf, (note, []))[1].append(place)
                start += part.size
    yield from found.values()


def _free(
    trial: Trial, places: Sequence[Place], limit: float, rng: np.random.Generator, patience: float
) -> Iterator[list[Place]]:
    """Sets of places, each of which can be permuted by itself without a change though all of it is seen."""
    leaves = jax.tree.leaves(trial.params)
    seen = [place for place in places if _seen(trial, leaves, place, limit, rng)]
    if not seen:
        return
    # a cycle through all positions, which leaves none in its place
    cycle = rng.permutation(seen[0].size)
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)
    together = _together(trial, leaves, seen, limit, rng) if len(seen) * trial.of.seconds < patience else [seen]
    for chosen in together:
        moved = list(leaves)
        for place in chosen:
            moved[place.leaf] = _taken(moved[place.leaf], place, order)
        if _change(trial, moved) <= limit:
            yield chosen


def _seen(trial: Trial, leaves: list, place: Place, limit: float, rng: np.random.Generator) -> bool:
    """Do the results depend on the positions of this place?"""
    shape = np.ones(leaves[place.leaf].ndim + 2, int)
    shape[place.axis + 1] = place.size
    view, array = _view(leaves[place.leaf], place)
    if not np.issubdtype(array.dtype, np.inexact):
        return False
    view *= np.exp(0.3 * rng.standard_normal(place.size)).reshape(shape)
    changed = [array if k == place.leaf else leaf for k, leaf in enumerate(leaves)]
    return _change(trial, changed) > CLEAR * limit


def _together(
    trial: Trial, leaves: list, places: list[Place], limit: float, rng: np.random.Generator
) -> list[list[Place]]:
    """The sets of places that belong to the same units; neighbours are tried first, as most are linked."""
    one, two = rng.choice(places[0].size, 2, replace=False)
    equal, exchanged = np.arange(places[0].size), np.arange(places[0].size)
    equal[two] = one
    exchanged[[one, two]] = two, one
    sets = {place: {place} for place in places}
    for gap in range(1, len(places)):
        for first, second in zip(places, places[gap:], strict=False):
            if sets[first] is sets[second]:
                continue
            alike = list(leaves)
            for place in places:
                if place not in (first, second):
                    alike[place.leaf] = _taken(alike[place.leaf], place, equal)
            apart = list(alike)
            apart[second.leaf] = _taken(alike[second.leaf], second, exchanged)
            results = [trial.of.run([*one, *trial.inputs]) for one in (alike, apart)]
            if difference(*results) > limit:
                sets[first] |= sets[second]
                sets |= dict.fromkeys(sets[second], sets[first])
    return [sorted(one, key=places.index) for k, one in enumerate(sets.values()) if one not in list(sets.values())[:k]]


def _change(trial: Trial, leaves: list) -> float:
    return trial.change(trial.of.treedef.unflatten(leaves))


def _taken(array: np.ndarray, place: Place, order: np.ndarray) -> np.ndarray:
    view, out = _view(array, place)
    view[...] = np.take(view, order, axis=place.axis + 1)
    return out


def _view(array: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """A copy of an array, and the view of it in which axis `place.axis + 1` is the factor."""
    out = np.moveaxis(array, place.axis, 0).copy()
    stretch = out[place.start : place.start + place.outer * place.size * place.inner]
    view = stretch.reshape(place.outer, place.size, place.inner, *out.shape[1:])
    view = np.moveaxis(view, [0, 1, 2], [place.axis, place.axis + 1, place.axis + 2])
    return view, np.moveaxis(out, 0, place.axis)
