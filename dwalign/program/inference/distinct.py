"""Whether the entries of a value along a dimension can be told apart: without that none of them is the largest.

Generic weights and inputs give every unit a value of its own. Truth values, whole numbers, signs and what is clipped
from above do not: of several that are the largest JAX takes the first, and so minds the order of the units.
"""

import jax.numpy as jnp

from dwalign.program.inference.atoms import Atom, leaves
from dwalign.program.inference.facts import Occurrence

# how often entries are the same: almost never, only where they are the least (as after a ReLU), ever
NEVER, LEAST, EVER = 0, 1, 2
STEPS = {"sign", "floor", "ceil", "round", "clamp", "sort", "top_k"}
NOT_RISING = set(
    "abs acos acosh asin atan2 conj cos cosh erfc imag lgamma neg not pow real rem rsqrt sin sinh tan".split()
)
# what lies beside another
PLACED = {"concatenate", "dynamic_update_slice", "pad"}
# further away than this nobody looks: what cannot be told counts as equal
FURTHEST = 150


def distinct(one: Occurrence, atom: Atom, largest: bool) -> bool:
    """Whether the largest (or the smallest) entries along the dimension are each the only one of their value."""
    often = _equal(one, set(leaves(atom)), {}, 0)
    return often == NEVER or (largest and often == LEAST)


def _equal(one: Occurrence, along: set[Atom], seen: dict[int, int | None], depth: int) -> int | None:
    """How often entries along a dimension are the same; None for a value that does not change along it."""
    if not any(along & set(leaves(atom)) for atom in one.dims if atom is not None):
        return None
    if depth > FURTHEST or one.dtype is None or not jnp.issubdtype(one.dtype, jnp.inexact):
        return EVER
    if one.origin is None:
        return NEVER
    if id(one) not in seen:
        seen[id(one)] = EVER
        seen[id(one)] = _combined(one.origin.primitive, one.origin.operands, along, seen, depth + 1)
    return seen[id(one)]


def _combined(name: str, operands, along, seen, depth: int) -> int:
    if name in STEPS:
        return EVER
    # indices and choices are no values
    values = {"select_n": slice(1, None), "gather": slice(1), "dynamic_update_slice": slice(2)}
    operands = operands[slice(0, 3, 2) if name.startswith("scatter") else values.get(name, slice(None))]
    each = [_equal(one, along, seen, depth) for one in operands]
    found = [often for often in each if often is not None]
    if not found:
        return EVER
    worst, alone = max(found), len(found) < len(operands)
    if alone and (name in PLACED or name.startswith("scatter")):
        # there are places with nothing else
        return EVER
    if name in ("max", "select_n", "cond", "min") and alone:
        # here and there another value takes over, the same for all units
        return EVER if name == "min" else max(worst, LEAST)
    if name in ("add", "add_any", "sub", "dot_general", "conv_general_dilated") and NEVER in found:
        return NEVER
    if name == "mul" and NEVER in found and worst == EVER:
        return LEAST
    falls = name in NOT_RISING or (name in ("sub", "div") and each[1] == LEAST)
    return EVER if falls and worst == LEAST else worst
