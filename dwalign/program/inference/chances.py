"""Entries of values tried on numbers: the chance that two units have the same, or that one has zero.

A value is followed back through what computes each entry by itself, and what picks entries, to values that are made in
other ways: these are drawn. Where something cancels (a value over its magnitude, the squares of a sine and a cosine) or
does not change for a while (what is rounded or clipped), two draws in many give the same to the last digits. Numbers
are drawn near to zero, where functions are what they are, and of all sizes, where those that level off are replaced.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dwalign.program.inference.atoms import Atom
from dwalign.program.inference.facts import Facts, Occurrence, leaves_of
from dwalign.program.inference.pointwise import POINTWISE, computed

# how often entries are the same: almost never, also where one of them alone is replaced; only where they are zero;
# ever; and all at once where they are zero
NEVER, REPLACED, ZERO, EVER, SILENT = range(5)
# further away than this nobody looks: what cannot be told counts as equal
FURTHEST = 150
DRAWS = 512
# so many may have met by chance
CHANCE = 1
# how much continuous values are moved to see which digits are rounding, and how many times more that may be
MOVED, MORE = 1e-10, 16
# where a unit is, and another, and what else lies along other dimensions
HERE, THERE, ELSEWHERE = 0, 1, 9
# of what is drawn; a tanh of twenty times as much has not levelled off near to zero
NEAR, SIZES = 0.1, np.linspace(-1, 4, DRAWS // 2)
FEW = np.array([-1.0, 1.0, 2.0, 0.0])
SHOWN = {"broadcast_in_dim", "expand_dims", "reshape", "squeeze", "transpose"}
# of one operand an entry here or elsewhere, or what is made of these
PICKED = {"dynamic_slice", "gather", "rev", "slice", "sort", "split", "top_k", "unstack"}
COMBINED = {"reduce_max": np.maximum, "cummax": np.maximum, "reduce_min": np.minimum, "cummin": np.minimum}
COMBINED |= {"reduce_sum": np.add, "reduce_prod": np.multiply, "reduce_and": np.logical_and, "reduce_or": np.logical_or}
COMBINED |= {"cumsum": np.add, "cumprod": np.multiply}
# of more entries than these the first few are combined
FEWEST = 3
At = Mapping[Atom, int]
# of a value that nothing here makes, and how far away that is
Often = Callable[[Occurrence, int], int]


class Numbers(NamedTuple):
    """How values are drawn: `often` says how, of one that no equation here makes; `far` in all sizes."""

    facts: Facts
    along: frozenset[Atom]
    often: Often
    far: bool
    rng: np.random.Generator
    drawn: dict
    made: dict
    depth: int
    moved: bool = False


def is_tried(one: Occurrence, along: frozenset[Atom]) -> bool:
    """Whether entries are made of those of operands, each by itself."""
    if one.origin is None:
        return False
    name, operands, _ = one.origin
    if name in POINTWISE or name in SHOWN or name in ("carry", "cond"):
        return True
    own = set(leaves_of(one.dims))
    if name == "dot_general":
        # where there is nothing to sum over
        return all(own.issuperset(leaves_of(operand.dims)) for operand in operands)
    if name in PICKED or name in COMBINED:
        before = [leaf for leaf in leaves_of(operands[0].dims) if leaf in along]
        alone = name not in ("sort", "top_k") or len(operands) == 1
        return alone and before == [leaf for leaf in leaves_of(one.dims) if leaf in along] and len(before) < 2
    return False


def ties(facts: Facts, one: Occurrence, along: frozenset[Atom], often: Often, depth: int) -> int:
    """How often entries along the dimension are the same."""
    found = NEVER
    for numbers in _worlds(facts, along, often, depth):
        units = [dict.fromkeys(along, place) for place in (HERE, THERE)]
        (u, near_u), (v, near_v) = ((entry(numbers, one, at), _near(numbers, one, at)) for at in units)
        rounding = MORE * np.maximum(near_u, near_v)
        with np.errstate(all="ignore"):
            same = np.isfinite(u) & np.isfinite(v) & (np.abs(u - v) <= rounding)
        infinite = np.isinf(u) & (u == v)
        if numbers.far:
            # what grows without end is not infinite
            infinite[:] = False
        if np.count_nonzero(same | infinite) > CHANCE:
            zero = not infinite.any() and np.abs(u[same]).max() <= rounding[same].max()
            found = max(found, ZERO if zero else EVER)
        elif numbers.drawn.get("replaced"):
            found = max(found, REPLACED)
    return found


def vanishes(facts: Facts, one: Occurrence, along: frozenset[Atom], count: int, often: Often, depth: int) -> bool:
    """Whether so many entries along the dimensions may all be zero."""
    for numbers in _worlds(facts, along, often, depth):
        zero = np.ones(DRAWS, bool)
        for place in range(count):
            at = dict.fromkeys(along, place)
            zero &= np.abs(entry(numbers, one, at)) <= MORE * _near(numbers, one, at)
        if np.count_nonzero(zero) > CHANCE:
            return True
    return False


def _worlds(facts: Facts, along: frozenset[Atom], often: Often, depth: int) -> Iterator[Numbers]:
    for far in (False, True):
        yield Numbers(facts, along, often, far, np.random.default_rng(far), {}, {}, depth)


def _near(numbers: Numbers, one: Occurrence, at: At) -> np.ndarray:
    """How much an entry changes where all that it is made of is moved by a little."""
    other = numbers._replace(moved=True)
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.abs(entry(numbers, one, at) - entry(other, one, at)), nan=0.0, posinf=0.0)


def entry(numbers: Numbers, one: Occurrence, at: At) -> np.ndarray:
    """One entry of a value, in all draws."""
    key = one.number, tuple(at.get(leaf, HERE) for leaf in leaves_of(one.dims)), numbers.moved
    if key not in numbers.made:
        with np.errstate(all="ignore"):
            numbers.made[key] = np.broadcast_to(_entry(numbers, one, at), DRAWS)
    return numbers.made[key]


def _entry(numbers: Numbers, one: Occurrence, at: At) -> np.ndarray:
    facts, numbers = numbers.facts, numbers._replace(depth=numbers.depth + 1)
    if (fixed := _fixed(facts, one)) is not None:
        return fixed
    if one.positions is not None and one.positions.kind == "own":
        numbers.drawn["replaced"] = True
        own = [at[leaf] for leaf in leaves_of(one.positions.atoms) if leaf in at]
        return np.array(own[0]) if own else _coin(numbers, one, {}, len(FEW))
    if one.origin is None or numbers.depth > FURTHEST or not is_tried(one, numbers.along):
        return _draw(numbers, one, at)
    name, operands, params = one.origin
    gone = set(leaves_of(operands[0].dims)) - set(leaves_of(one.dims))
    here, there = ({**at, **dict.fromkeys(gone, place)} for place in (HERE, ELSEWHERE))
    if name in COMBINED and gone:
        count = min(FEWEST, math.prod(leaf.size for leaf in gone))
        places = [here, *({**at, **dict.fromkeys(gone, ELSEWHERE + k)} for k in range(count - 1))]
        return functools.reduce(COMBINED[name], [entry(numbers, operands[0], place) for place in places])
    if name in PICKED:
        coin = _coin(numbers, one, at if name in ("sort", "top_k") else _beside(numbers, at))
        return np.where(coin, entry(numbers, operands[0], here), entry(numbers, operands[0], there))
    if name == "carry":
        # what enters a loop, or what a turn of it has left
        return np.where(_coin(numbers, one, {}), entry(numbers, operands[0], at), _draw(numbers, one, at))
    values = [entry(numbers, operand, at) for operand in operands]
    if name == "cond":
        return np.select([_coin(numbers, one, {}, len(values)) == k for k in range(len(values))], values)
    if name in SHOWN or name in COMBINED or name == "dot_general":
        return functools.reduce(np.multiply, values)
    if name == "div" and numbers.along.isdisjoint(leaves_of(operands[1].dims)):
        # nobody divides all units by zero
        values[1] = np.where(values[1] == 0, np.nan, values[1])
    return computed(name, params, one.dtype, values, far=numbers.far)


def _fixed(facts: Facts, one: Occurrence) -> np.ndarray | None:
    """What the program says a value is all along."""
    if one.number in facts.zeros:
        return np.zeros((), one.dtype or float)
    if one.number in facts.scalars:
        kind = None if one.number in facts.known else float
        return np.asarray(facts.known.get(one.number, facts.scalars[one.number]), kind)
    return np.array(np.inf) if one.number in facts.fills else None


def _beside(numbers: Numbers, at: At) -> At:
    return {leaf: place for leaf, place in at.items() if leaf not in numbers.along}


def _coin(numbers: Numbers, one: Occurrence, at: At, sides: int = 2) -> np.ndarray:
    key = "coin", one.number, tuple(at.get(leaf, HERE) for leaf in leaves_of(one.dims)) if at else None
    if key not in numbers.drawn:
        numbers.drawn[key] = numbers.rng.integers(0, sides, DRAWS)
    return numbers.drawn[key]


def _draw(numbers: Numbers, one: Occurrence, at: At) -> np.ndarray:
    """Of a value that is not made of others here; values that are made alike are one."""
    number = numbers.facts.copies.get(one.number, one.number)
    places = tuple(at.get(leaf, HERE) for leaf in leaves_of(one.dims))
    if (number, places) not in numbers.drawn:
        numbers.drawn[number, places] = _drawn(numbers, one, number, at)
    value = numbers.drawn[number, places]
    return value * (1 + MOVED) if numbers.moved and jnp.issubdtype(value.dtype, jnp.inexact) else value


def _drawn(numbers: Numbers, one: Occurrence, number: int, at: At) -> np.ndarray:
    rng, dtype = numbers.rng, one.dtype or float
    if not jnp.issubdtype(dtype, jnp.inexact):
        return rng.integers(0, 2 if jnp.issubdtype(dtype, jnp.bool_) else 4, DRAWS).astype(dtype)
    often = numbers.often(one, numbers.depth)
    single = lambda: FEW[rng.integers(0, len(FEW), DRAWS)] if often == EVER else rng.standard_normal(DRAWS)
    value: Any = single()
    if jnp.issubdtype(dtype, jnp.complexfloating):
        value = value + 1j * single()
    if often != EVER:
        # of all that is drawn together sizes are alike
        value = value * (10 ** (np.tile(SIZES, 2) + rng.uniform(-1, 1, DRAWS)) if numbers.far else NEAR)
    # many functions are for positive numbers alone
    value[: DRAWS // 2] = np.abs(value[: DRAWS // 2])
    if often == ZERO:
        value = value * rng.integers(0, 2, DRAWS)
    elif often in (SILENT, REPLACED):
        if often == REPLACED:
            numbers.drawn["replaced"] = True
        key = "which", number, tuple(at.get(leaf, HERE) for leaf in leaves_of(one.dims) if leaf not in numbers.along)
        which = numbers.drawn.setdefault(key, rng.integers(0, 4, DRAWS))
        place = next((at.get(leaf, HERE) for leaf in leaves_of(one.dims) if leaf in numbers.along), HERE)
        value = value * ((which > 1) if often == SILENT else (which != place))
    return value
