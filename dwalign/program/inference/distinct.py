"""Whether the entries of a value along a dimension can be told apart: without that none of them is the largest.

Generic weights and inputs give every unit a value of its own. Truth values, whole numbers, signs and what is clipped do
not: of several that are the largest JAX takes the first, and so minds the order of the units. Neither do units behind a
ReLU, of which all may be silent or fewer active than are asked for, and rows that a mask makes zero. All of these are
equal where they are zero, and nowhere else; who puts the largest back at their places in zeros need not know which of
them were taken (`positions.scatter`), everybody else must.
"""

import math
from collections import Counter

import jax.numpy as jnp

from dwalign.program.inference.atoms import Atom, leaves
from dwalign.program.inference.facts import Facts, Occurrence, Origin

# how often entries are the same: almost never, also where one of them alone is replaced; only where they are zero; ever
NEVER, REPLACED, ZERO, EVER = range(4)
STEPS = {"sign", "floor", "ceil", "round", "clamp", "carry"}
# of one operand these are as different as it is along the other dimensions
RANKED = {"sort", "top_k"}
LARGEST = RANKED | {"reduce_max", "reduce_min"}
MOVES = set("broadcast_in_dim convert_element_type copy expand_dims reshape rev slice squeeze transpose".split())
MOVES |= {"stop_gradient", "reduce_precision"}
# zero of zero
ZEROS = MOVES | set(
    "abs asin asinh atan atanh cbrt erf expm1 imag log1p neg real sin sinh sqrt square tan tanh".split()
)
ZEROS |= {"cumsum", "mul", "reduce_max", "reduce_min", "reduce_sum"}
SUMS = {"add", "add_any", "sub"}
# how often operands are counted in what is added up
FACTORS = {"add": (1, 1), "add_any": (1, 1), "sub": (1, -1), "neg": (-1,)}
FACTORS |= dict.fromkeys(("convert_element_type", "copy", "stop_gradient"), (1,))
POWERS = {"abs", "neg", "square", "sqrt", "cbrt", "integer_pow"}
PRODUCTS = {"mul", "div", "dot_general", "conv_general_dilated", "custom_linear_solve", "ragged_dot_general"}
EITHER = {"max", "min", "select_n", "cond"}
# what lies beside another
PLACED = {"concatenate", "dynamic_update_slice", "pad", "stack"}
SUMMED = PRODUCTS | {"reduce_sum", "reduce_max", "reduce_min"}
# so many units are not silent at once
MANY = 32
# further away than this nobody looks: what cannot be told counts as equal
FURTHEST = 150
# where each step may double the work
NEAR = 10

Along = frozenset[Atom]


def equal(facts: Facts, one: Occurrence, atom: Atom) -> int:
    """How often entries along the dimension are the same."""
    often = _equal(facts, one, frozenset(leaves(atom)), {}, 0)
    return EVER if often is None else often


def _dims_along(one: Occurrence, along: Along) -> list[Atom]:
    return [atom for atom in one.dims if atom is not None and along & set(leaves(atom))]


def _equal(facts: Facts, one: Occurrence, along: Along, seen: dict[int, int | None], depth: int) -> int | None:
    """As `equal`; None for a value that does not change along these."""
    if not _dims_along(one, along):
        return None
    if depth > FURTHEST or one.dtype is None or not jnp.issubdtype(one.dtype, jnp.inexact):
        return EVER
    if one.origin is None:
        return NEVER
    if id(one) not in seen:
        seen[id(one)] = EVER
        seen[id(one)] = _combined(facts, one, one.origin, along, seen, depth + 1)
    return seen[id(one)]


def _values(name: str, operands):
    """Operands that are no indices and choices."""
    values = {"select_n": slice(1, None), "gather": slice(1), "dynamic_slice": slice(1)}
    values |= {"dynamic_update_slice": slice(2)}
    return operands[slice(0, 3, 2) if name.startswith("scatter") else values.get(name, slice(None))]


def _added_up(one: Occurrence) -> list[Occurrence]:
    """The values of which a sum is made, but for those that cancel, as what is rounded and its gradient do."""
    values: dict[int, Occurrence] = {}
    counts: Counter[int] = Counter()
    queue, seen = [(one, 1)], 0
    while queue:
        (value, count), seen = queue.pop(), seen + 1
        name, operands = value.origin or Origin("", ())
        if name in FACTORS and seen <= FURTHEST:
            queue += [(part, count * factor) for part, factor in zip(operands, FACTORS[name], strict=True)]
        else:
            values[value.number] = value
            counts[value.number] += count
    return [value for number, value in values.items() if counts[number]]


def _multiplied(one: Occurrence, depth: int = 0) -> tuple[dict[int, Occurrence], dict[int, Occurrence]]:
    """The values whose powers a product is made of, and those that it is divided by, by their numbers."""
    name, operands = one.origin or Origin("", ())
    if depth > NEAR or name not in {"mul", "div", "rsqrt", *POWERS, *MOVES}:
        return {one.number: one}, {}
    above, below = _multiplied(operands[0], depth + 1)
    if name in ("mul", "div"):
        others = _multiplied(operands[1], depth + 1)
        above, below = (x | y for x, y in zip((above, below), others if name == "mul" else others[::-1], strict=True))
    return (below, above) if name == "rsqrt" else (above, below)


def _combined(facts: Facts, one: Occurrence, origin: Origin, along: Along, seen, depth: int) -> int:
    name, operands = origin
    if name in STEPS or (name in RANKED and len(operands) > 1):
        return EVER
    values = _added_up(one) if name in SUMS else _values(name, operands)
    if name in LARGEST and any(len(_dims_along(value, along)) > 1 for value in values):
        # two units may have the same pair for their largest
        return EVER
    each = [_equal(facts, value, along, seen, depth) for value in values]
    found = [often for often in each if often is not None]
    if not found:
        return EVER
    alone = [value for value, often in zip(values, each, strict=True) if often is None]
    if alone and (name in PLACED or name.startswith("scatter")):
        # there are places with nothing else
        return EVER
    if name in EITHER and alone:
        # here and there another value takes over, the same for all units
        if name == "select_n" and found == [NEVER] and _is_code(operands[0], along):
            return REPLACED
        return max(ZERO, *found) if all(value.number in facts.zeros for value in alone) else EVER
    if name in SUMS:
        # what is the same for all units is added where they are zero
        return NEVER if NEVER in found else EVER if alone and max(found) == ZERO else max(found)
    if name in ("mul", "div"):
        above, below = _multiplied(one)
        # what is divided by its own magnitude is a sign
        if any(_dims_along(above[number], along) for number in above.keys() & below.keys()):
            return EVER
    if name in PRODUCTS:
        return _product(facts, one, name, values, each, along, depth)
    return EVER if max(found) == ZERO and name not in ZEROS else max(found)


def _product(facts: Facts, one: Occurrence, name: str, values, each, along: Along, depth: int) -> int:
    """Entries that are told apart by one factor, unless another is zero."""
    if name == "div" and each[1] in (ZERO, EVER):
        return EVER
    best = min(often for often in each if often is not None)
    if best in (NEVER, REPLACED):
        others = [
            (value, often) for k, (value, often) in enumerate(zip(values, each, strict=True)) if k != each.index(best)
        ]
        codes = [value for value, often in others if often == EVER and _is_code(value, along)]
        if codes and best == NEVER:
            best, others = REPLACED, [(value, often) for value, often in others if value is not codes[0]]
        if any(
            often in (ZERO, EVER) or (often is None and _is_silent(facts, value, _summed(one, value), {}, depth))
            for value, often in others
        ):
            return ZERO
    return best


def _summed(one: Occurrence, operand: Occurrence) -> Along:
    """The dimensions of an operand over which a result is summed."""
    kept = {leaf for atom in one.dims if atom is not None for leaf in leaves(atom)}
    return frozenset(leaf for atom in operand.dims if atom is not None for leaf in leaves(atom)) - kept


def _is_code(one: Occurrence, along: Along) -> bool:
    """Whether all entries along the dimension are the same but for one, that at a position."""
    while one.origin is not None and _dims_along(one, along):
        name, operands = one.origin.primitive, one.origin.operands
        changing = [value for value in operands if _dims_along(value, along)]
        if len(changing) != 1:
            return False
        if name in ("eq", "ne"):
            number = changing[0].positions
            own = number.atoms[0] if number is not None and number.kind == "own" else None
            return own is not None and set(leaves(own)) <= along
        if name not in MOVES | {"not", "sub", "gt", "lt", "select_n"}:
            return False
        (one,) = changing
    return False


def _is_silent(facts: Facts, one: Occurrence, along: Along, seen: dict[int, bool], depth: int) -> bool:
    """Whether entries along these dimensions, or all that are the same along them, may be zero at once."""
    if one.number in facts.known:
        return not facts.known[one.number].all()
    if one.origin is None or depth > FURTHEST:
        return one.number in facts.gaps
    if one.number in facts.zeros or not jnp.issubdtype(one.dtype, jnp.inexact):
        return True
    if id(one) not in seen:
        seen[id(one)] = False
        seen[id(one)] = _all_zero(facts, one, one.origin, along, seen, depth + 1)
    return seen[id(one)]


def _all_zero(facts: Facts, one: Occurrence, origin: Origin, along: Along, seen, depth: int) -> bool:
    name, operands = origin
    if name in STEPS - {"carry"} | RANKED:
        return True
    values = _added_up(one) if name in SUMS else _values(name, operands)[: 1 if name == "div" else None]
    summed = {id(value): _summed(one, value) if name in SUMMED else frozenset() for value in values}
    silent = [_is_silent(facts, value, along | summed[id(value)], seen, depth) for value in values]
    if name in ("max", "min") or (name == "select_n" and _dims_along(operands[0], along)):
        # each unit by itself
        count = math.prod(leaf.size for atom in one.dims if atom is not None for leaf in {*leaves(atom)} & along)
        return any(silent) if count < MANY else all(silent)
    if name in PRODUCTS | EITHER | PLACED or name.startswith("scatter"):
        return any(silent)
    return name in ZEROS | SUMS | {"carry", "gather", "dynamic_slice"} and all(silent)
