"""What a spec misses: units that are free and not declared, pinned positions that can be permuted, groups that are two.

All three are found on numbers. What moves as one and could move by itself shows to first order: where two units are
equal, exchange them in the direction in which they begin to differ. Each place of a group then changes the results by
a vector; these sum to nothing over all places, and over each set of places that is free of the others.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.symmetry.inference import Program, read_program
from dwalign.symmetry.inference.atoms import Atom, factors, find, parts
from dwalign.symmetry.spec import Axes, Note, PermutationSpec
from dwalign.symmetry.trial import Trial

PyTree = Any
# an effect is seen that is so many times larger than what passes as rounding
CLEAR = 10.0
STEP = 2.0**-8


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
) -> Iterator[Note]:
    """See `certify(complete=True)`; `limit` is what passes as rounding in the trial."""
    program = read_program(apply, params, *inputs)
    yield from _undeclared(spec, program.spec)
    for group in spec.sizes:
        places = [place for k, axes in enumerate(spec.leaves) for place in _carried(spec, k, axes, group)]
        for free in list(_free(trial, places, limit, rng))[1:]:
            first = spec.paths[free[0].leaf], free[0].axis, free[0].size
            where = ", ".join(dict.fromkeys(spec.paths[place.leaf] for place in free))
            yield Note(*first, f"group {group!r} ties what is independent: it can be permuted by itself on {where}")
    for note, places in _pinned(program, moderate):
        for free in _free(trial, places, limit, rng):
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


def _free(trial: Trial, places: Sequence[Place], limit: float, rng: np.random.Generator) -> Iterator[list[Place]]:
    """Sets of places, each of which can be permuted by itself without a change though all of it is seen."""
    leaves = jax.tree.leaves(trial.params)
    seen = [place for place in places if _seen(trial, leaves, place, limit, rng)]
    if not seen:
        return
    # a cycle through all positions, which leaves none in its place
    cycle = rng.permutation(seen[0].size)
    order = np.empty_like(cycle)
    order[cycle] = np.roll(cycle, 1)
    for chosen in _candidates(trial, leaves, seen, rng):
        moved = list(leaves)
        for place in chosen:
            moved[place.leaf] = _taken(moved[place.leaf], place, order)
        if trial.change(trial.of.treedef.unflatten(moved)) <= limit:
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
    return trial.change(trial.of.treedef.unflatten(changed)) > CLEAR * limit


def _candidates(trial: Trial, leaves: list, places: list[Place], rng: np.random.Generator) -> list[list[Place]]:
    """The finest sets of places whose first-order changes sum to nothing; none where there is no such set."""
    if len(places) == 1:
        return [places]
    rows: list[np.ndarray] = []
    while sum(len(row) for row in rows) < 2 * len(places) and len(rows) < 8:
        rows.append(_first_order(trial, leaves, places, rng))
    changes = np.concatenate(rows)
    sizes = np.linalg.norm(changes, axis=0)
    if not np.isfinite(sizes).all() or sizes.min() == 0:
        return [places]
    _, values, vectors = np.linalg.svd(changes / sizes, full_matrices=True)
    values = np.concatenate([values, np.zeros(len(places) - len(values))])
    null = _echelon(vectors[values < 1e-3 * values[0]] / sizes)
    sets = [frozenset(np.flatnonzero(np.abs(row) > 0.5).tolist()) for row in null]
    if sum(map(len, sets)) != len(frozenset().union(*sets)):
        return [places]
    return [[places[k] for k in sorted(one)] for one in sorted(sets, key=min)]


def _first_order(trial: Trial, leaves: list, places: list[Place], rng: np.random.Generator) -> np.ndarray:
    """Where two units are equal: the derivative of the results along their exchange, one column a place."""
    one, two = rng.choice(places[0].size, 2, replace=False)
    equal, columns = list(leaves), []
    copy, swap = np.arange(places[0].size), np.arange(places[0].size)
    copy[two] = one
    swap[[one, two]] = two, one
    for place in places:
        equal[place.leaf] = _taken(equal[place.leaf], place, copy)
    wander = {place.leaf: _noise(leaves[place.leaf], rng) for place in places}
    for place in places:
        towards = _taken(wander[place.leaf], place, swap) - wander[place.leaf]
        ends = []
        for step in (STEP, -STEP):
            moved = list(equal)
            moved[place.leaf] = (equal[place.leaf] + step * towards).astype(equal[place.leaf].dtype)
            ends.append(_flat(trial.run(trial.of.treedef.unflatten(moved))))
        columns.append((ends[0] - ends[1]) / (2 * STEP))
    return np.stack(columns, axis=1)


def _noise(leaf: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(leaf.shape) * np.sqrt(np.mean(np.abs(leaf) ** 2))


def _flat(results: list[np.ndarray]) -> np.ndarray:
    flat = np.concatenate([one.reshape(-1) for one in results])
    return np.concatenate([flat.real, flat.imag]) if np.iscomplexobj(flat) else flat


def _echelon(rows: np.ndarray) -> np.ndarray:
    """The reduced echelon form; rows of disjoint supports come out apart."""
    rows = rows.copy()
    for k in range(len(rows)):
        pivot = k + np.argmax(np.abs(rows[k:]).max(axis=1))
        rows[[k, pivot]] = rows[[pivot, k]]
        column = np.argmax(np.abs(rows[k]))
        rows[k] /= rows[k, column]
        others = [j for j in range(len(rows)) if j != k]
        rows[others] -= rows[others][:, [column]] * rows[k]
    return rows


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
