"""What a spec with larger kinds misses: scales, maps and signs that are free and not declared, found on numbers.

Continuous symmetries are null vectors. Each place of a group, a block and an axis of it, gives a column: how the
results move when one unit is made larger at that place alone, or when a little of another unit is added to it there. A
combination of columns that moves nothing is a scale or a map, and what is declared gives some. It has to be the same
combination for all units at all points, so points are added until only declared ones are left, or so many agree that
the others are symmetries too; far steps, and large weights, show what a branch that is not taken hides from
derivatives. Signs are discrete and are tried: at every place, at every two, at all. The inference takes no part.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import expm, qr

from dwalign.program.trial import ROUNDED, Trial, difference, fresh_trials, large_trials, trials, typical
from dwalign.symmetry.powers import Power
from dwalign.symmetry.spec import Note, PermutationSpec

# where less than this can be told apart no derivative can be taken
SHARP = 1e-8
# of differences: a larger one is too coarse, of a smaller one rounding is left
STEP = 5e-6
# derivatives that are nothing, of results that are typically 1
NOTHING = 1e-9
# far steps are such powers of e
FAR = 1.5
# points that agree
POINTS = 8
# at last with weights so many times larger
LARGE = np.geomspace(4.0, 64.0, POINTS)
# what two places cost, in runs: most groups need two points
RUNS = 12


class Place(NamedTuple):
    """Where an array carries a group.

    Attributes:
      leaf: the number of the array.
      dimension: along which the group lies.
      units: the places of each unit in the flat array, `[n, m]`; of a batched group for one index of its batch.
      power: of the factors there.
    """

    leaf: int
    dimension: int
    units: np.ndarray
    power: Power


def find_missed_kinds(
    spec: PermutationSpec, trial: Trial, limit: float, rng: np.random.Generator, patience: float
) -> Iterator[Note]:
    """Notes on groups of which more is free than `spec` says; `limit` is what passes as rounding in the trial.

    Groups that would take more than `patience` seconds are left out, and those that others are batched over.
    """
    if limit > SHARP or not (spec.has_kinds or spec.bounds):
        return
    for group, n in spec.sizes.items():
        places = _places(spec, group, trial)
        if group in spec.outer or not places or RUNS * len(places) ** 2 * trial.of.seconds > patience:
            continue
        kind = spec.kinds[group]
        seen, scales = _beside(_scales(places), places, trial, limit, rng)
        odd = _odd(kind, places)
        signs = _signs(odd, seen, places, trial, limit, rng)
        # where two units can be turned into one another they can be exchanged, and the one or the other has a sign
        turns = n > 1 and len(odd) + len(signs) > 0
        _, maps = _beside(_maps(kind, places), places, trial, limit, rng) if turns else (seen, scales[:0])
        for what, found in (("scales", scales), ("maps of its units", maps), ("signs", signs)):
            on = [places[k % len(places)] for k in np.flatnonzero(np.any(np.abs(found) > 0.01, axis=0))]
            if on:
                where = ", ".join(dict.fromkeys(spec.paths[place.leaf] for place in on))
                why = f"group {group!r} is not all that is free: more {what} are ({len(found)}), on {where}"
                yield Note(spec.paths[on[0].leaf], on[0].dimension, n, why)


def _places(spec: PermutationSpec, group: str, trial: Trial) -> list[Place]:
    """Those that can be multiplied."""
    leaves = jax.tree.leaves(trial.wide)
    numbers = spec.treedef.unflatten([np.arange(math.prod(leaf.shape)).reshape(leaf.shape) for leaf in leaves])
    out = []
    for block in spec.blocks(numbers):
        if not jnp.issubdtype(leaves[block.leaf].dtype, np.inexact):
            continue
        one = tuple(slice(0, 1 if name in spec.batch.get(group, ()) else None) for name in block.factors)
        for axis in (axis for axis, name in enumerate(block.factors) if name == group):
            units = np.moveaxis(block.array[one], axis, 0).reshape(spec.sizes[group], -1)
            first, last = np.transpose(np.unravel_index(units[[0, -1], 0], leaves[block.leaf].shape))
            power = block.powers[axis] if block.powers else Power()
            out.append(Place(block.leaf, int(np.argmax(first != last)), units, power))
    return out


# what is declared, with a column for each place; for maps one for what is added to unit i and one for what to unit j


def _scales(places: Sequence[Place]) -> np.ndarray:
    return np.array([[float(power) for power in place.power.scale] for place in places]).T


def _maps(kind: str, places: Sequence[Place]) -> np.ndarray:
    if kind == "orthogonal":
        return np.repeat([[1.0, -1.0]], len(places), axis=1)
    if kind != "linear":
        return np.zeros((0, 2 * len(places)))
    dual = _scales(places)[0] < 0
    ahead, back = np.where(dual, 0.0, 1.0), np.where(dual, -1.0, 0.0)
    return np.stack([np.concatenate([ahead, back]), np.concatenate([back, ahead])])


def _odd(kind: str, places: Sequence[Place]) -> np.ndarray:
    if kind in ("orthogonal", "linear"):
        return np.ones((1, len(places)), int)
    return np.array([place.power.sign for place in places], int).T


# what is found, at one point after the other


def _points(trial: Trial, rng: np.random.Generator) -> Iterator[Trial]:
    yield trial
    for _ in range(POINTS - 1):
        yield from itertools.islice(trials(trial.of, rng), 1)


def _everywhere(trial: Trial, limit: float, rng: np.random.Generator) -> Iterator[tuple[Trial, float]]:
    """Points with what passes as rounding there; at last those at which programs do what they do not do otherwise.

    Weights that have nothing of the given ones take other branches. Where they are large a solver of differential
    equations takes smaller steps, and a clip shows its bounds.
    """
    for at in _points(trial, rng):
        yield at, limit
    others = (fresh_trials(trial.of, rng) for _ in range(POINTS))
    for at in itertools.chain(*others, *(large_trials(trial.of, times, rng) for times in LARGE)):
        yield at, max(limit, ROUNDED * at.rounding())


def _beside(
    declared: np.ndarray, places: Sequence[Place], trial: Trial, limit: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which columns are seen, and combinations of them that move nothing, independent of the declared ones."""
    count, rows = 0, np.zeros((0, declared.shape[1]))
    for at in _points(trial, rng):
        found = _columns(_pairs(declared, places, rng), places, at)
        count += len(found)
        # as many rows as columns say the same
        rows = np.linalg.qr(np.concatenate([rows, found]), mode="r")
        least = NOTHING * math.sqrt(count)
        seen = np.linalg.norm(rows, axis=0) > least
        free, known = _null(rows[:, seen], least), _span(declared[:, seen], 1e-6)
        if len(free) <= len(known):
            break
    kept: list[np.ndarray] = []
    # of few results any combination would do
    for vector in _simple(free) if len(free) > len(known) and count >= 2 * len(seen) else ():
        whole = np.zeros(len(seen))
        whole[seen] = vector
        more = _span(np.stack([*known, *(one[seen] for one in kept), vector]), 1e-6)
        if len(more) > len(known) + len(kept) and _holds(whole, places, trial, limit, rng):
            kept.append(whole)
    return seen, np.reshape(kept, (-1, len(seen)))


def _pairs(columns: np.ndarray, places: Sequence[Place], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Of two units: which is added to which in a block of columns."""
    units = len(places[0].units)
    i, j = rng.choice(units, 2, replace=units < 2)
    return [(i, i)] if columns.shape[-1] == len(places) else [(i, j), (j, i)]


def _columns(pairs: Sequence[tuple[int, int]], places: Sequence[Place], at: Trial) -> np.ndarray:
    """Derivatives of all results, `[results, columns]`, relative to what is typical of their output."""
    scales = [typical(one) or 1.0 for one in at.reference]

    def results(step, place, i, j):
        array = leaves[place.leaf].flatten()
        array[place.units[i]] += step * array[place.units[j]]
        outs = at.of.run([*_replaced(leaves, {place.leaf: array}), *at.inputs])
        flat = [(out / scale).reshape(-1).view(np.float64) for out, scale in zip(outs, scales, strict=True)]
        return np.concatenate(flat)

    leaves = jax.tree.leaves(at.wide)
    moves = [(place, *pair) for pair in pairs for place in places]
    return np.stack([(results(STEP, *one) - results(-STEP, *one)) / (2 * STEP) for one in moves], axis=1)


def _holds(vector: np.ndarray, places: Sequence[Place], trial: Trial, limit: float, rng: np.random.Generator) -> bool:
    """Whether nothing changes when it is followed far."""
    for at, least in _everywhere(trial, limit, rng):
        pairs, far = _pairs(vector, places, rng), FAR * (0.5 + abs(rng.standard_normal()))
        # which of two pieces of a function a step reaches may depend on its sign
        if any(at.change(_followed(step * vector, pairs, places, at)) > least for step in (far, -far)):
            return False
    return True


def _followed(vector: np.ndarray, pairs: Sequence[tuple[int, int]], places: Sequence[Place], at: Trial):
    both = sorted({*pairs[0]})
    leaves, flat = jax.tree.leaves(at.wide), {}
    for place, *entries in zip(places, *vector.reshape(len(pairs), -1), strict=True):
        generator = np.zeros((len(both), len(both)))
        for (i, j), entry in zip(pairs, entries, strict=True):
            generator[both.index(i), both.index(j)] = entry
        array = flat.setdefault(place.leaf, leaves[place.leaf].flatten())
        array[place.units[both]] = np.tensordot(expm(generator), array[place.units[both]], 1)
    return at.of.treedef.unflatten(_replaced(leaves, flat))


def _replaced(leaves: Sequence[np.ndarray], flat: dict[int, np.ndarray]) -> list[np.ndarray]:
    return [flat[k].reshape(leaf.shape) if k in flat else leaf for k, leaf in enumerate(leaves)]


def _null(rows: np.ndarray, least: float) -> np.ndarray:
    """An orthonormal basis of what all rows send to less than `least`, one vector a row."""
    _, sizes, vectors = np.linalg.svd(rows)
    return vectors[np.count_nonzero(sizes > least) :]


def _simple(basis: np.ndarray) -> np.ndarray:
    """Vectors of the same span with a 1 where the others are 0, in fractions."""
    _, pivots = qr(basis, mode="r", pivoting=True)
    return np.round(60 * np.linalg.solve(basis[:, pivots[: len(basis)]], basis)) / 60


def _span(vectors: np.ndarray, least: float) -> np.ndarray:
    """An orthonormal basis, one vector a row."""
    _, sizes, basis = np.linalg.svd(vectors, full_matrices=False)
    return basis[sizes > least]


def _signs(
    declared: np.ndarray,
    seen: np.ndarray,
    places: Sequence[Place],
    trial: Trial,
    limit: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Independent ways to turn the sign of a unit at some places, beside those that are declared."""
    on = [int(k) for k in np.flatnonzero(seen)]
    basis: list[int] = []
    for vector in declared:
        _joined(basis, np.flatnonzero(vector * seen))
    tried = [one for one in (*_alike(on, places, trial, limit, rng), on) if _joined(list(basis), one)]
    for at, least in _everywhere(trial, limit, rng) if tried else ():
        unit = rng.integers(len(places[0].units))
        tried = [one for one in tried if at.change(_turned(at, [places[k] for k in one], unit)) <= least]
        if not tried:
            break
    found = [one for one in tried if _joined(basis, one)]
    return np.array([[k in one for k in range(len(places))] for one in found], float).reshape(-1, len(places))


def _alike(
    on: Sequence[int], places: Sequence[Place], trial: Trial, limit: float, rng: np.random.Generator
) -> list[list[int]]:
    """One place or two at which a sign may be turned: to turn it at the one is what to turn it at the other is."""
    unit = rng.integers(len(places[0].units))
    results = [([], trial.reference), *(([k], trial.run(_turned(trial, [places[k]], unit))) for k in on)]
    pairs = itertools.combinations(results, 2)
    return [[*one, *other] for (one, x), (other, y) in pairs if difference(x, y, trial.scales) <= limit]


def _turned(at: Trial, places: Sequence[Place], unit: int):
    leaves, flat = jax.tree.leaves(at.wide), {}
    for place in places:
        array = flat.setdefault(place.leaf, leaves[place.leaf].flatten())
        array[place.units[unit]] *= -1
    return at.of.treedef.unflatten(_replaced(leaves, flat))


def _joined(basis: list[int], ones: Iterable[int]) -> bool:
    """Whether the vector with 1 at these places is independent of a basis modulo 2; then it is added to it."""
    vector = sum(1 << int(k) for k in ones)
    for one in sorted(basis, reverse=True):
        vector = min(vector, vector ^ one)
    if vector:
        basis.append(vector)
    return vector > 0
