"""Whether the entries of a value along a dimension can be told apart: without that none of them is the largest.

Generic weights and inputs give every unit a value of its own. Truth values, whole numbers, signs and what is clipped do
not: of several that are the largest JAX takes the first, and so minds the order of the units. Neither do units behind a
ReLU, of which all may be silent or fewer active than are asked for, and rows that a mask makes zero. All of these are
equal where they are zero, and nowhere else; who puts the largest back at their places in zeros need not know which of
them were taken (`positions.scatter`), everybody else must.

What is computed entry by entry is tried on numbers (`chances`); what combines entries has rules here.
"""

import math

import jax.numpy as jnp

from dwalign.program.inference.atoms import Atom
from dwalign.program.inference.chances import (
    EVER,
    FURTHEST,
    NEVER,
    REPLACED,
    SILENT,
    ZERO,
    is_tried,
    ties,
    vanishes,
)
from dwalign.program.inference.facts import Facts, Occurrence, Origin, leaves_of

# of one operand these are as different as it is along the other dimensions
RANKED = {"sort", "top_k"}
LARGEST = RANKED | {"reduce_max", "reduce_min"}
# what lies beside another
PLACED = {"concatenate", "dynamic_update_slice", "pad", "stack"}
# zero of zero
ZEROS = set(
    """
    abs asin asinh atan atanh broadcast_in_dim cbrt convert_element_type copy cumsum erf expand_dims expm1 imag log1p
    mul neg real reduce_max reduce_min reduce_precision reduce_sum reshape rev sin sinh slice sqrt square squeeze
    stop_gradient tan tanh transpose
    """.split()
)
# entries that differ in these results where those of the operands do; a matrix may be triangular, a spectrum real
KEPT = (
    RANKED
    | PLACED
    | set(
        """
    bessel_i0e bessel_i1e cumlogsumexp cummax cummin cumprod cumsum digamma dynamic_slice gather igamma igammac lgamma
    polygamma reduce_max reduce_min reduce_prod reduce_sum reduce_window reduce_window_max reduce_window_min
    reduce_window_sum regularized_incomplete_beta rev scatter scatter-add scatter-max scatter-min scatter-sub slice
    split tile triangular_solve unstack zeta
    """.split()
    )
)
PRODUCTS = {"dot_general", "conv_general_dilated", "custom_linear_solve", "ragged_dot_general"}
SUMMED = PRODUCTS | {"reduce_sum", "reduce_max", "reduce_min"}
# so many units are not silent at once, which some of them show
MANY, SOME = 32, 16

Along = frozenset[Atom]


def equal(facts: Facts, one: Occurrence, atom: Atom) -> int:
    """How often entries along the dimension are the same."""
    often = _equal(facts, one, frozenset(leaves_of([atom])), 0)
    return EVER if often is None else often


def may_vanish(facts: Facts, one: Occurrence) -> bool:
    """Whether an entry may be zero, other than almost never."""
    return _is_silent(facts, one, frozenset(), 0)


def _along(one: Occurrence, along: Along) -> int:
    """How many dimensions of a value change along these."""
    return sum(not along.isdisjoint(leaves_of([atom])) for atom in one.dims)


def _equal(facts: Facts, one: Occurrence, along: Along, depth: int) -> int | None:
    """As `equal`; None for a value that does not change along these."""
    if not _along(one, along):
        return None
    if depth > FURTHEST or one.dtype is None or not jnp.issubdtype(one.dtype, jnp.inexact):
        return EVER
    if one.origin is None:
        return NEVER
    along = along.intersection(leaves_of(one.dims))
    if (one.number, along) not in facts.often:
        facts.often[one.number, along] = EVER
        facts.often[one.number, along] = _combined(facts, one, one.origin, along, depth + 1)
    return facts.often[one.number, along]


def _values(name: str, operands):
    """Operands that are no indices."""
    values = {"gather": slice(1), "dynamic_slice": slice(1), "dynamic_update_slice": slice(2)}
    return operands[slice(0, 3, 2) if name.startswith("scatter") else values.get(name, slice(None))]


def _combined(facts: Facts, one: Occurrence, origin: Origin, along: Along, depth: int) -> int:
    def often(drawn: Occurrence, depth: int) -> int:
        found = _equal(facts, drawn, along, depth)
        if found is not None:
            return found
        return SILENT if _is_silent(facts, drawn, frozenset(), depth) else NEVER

    if is_tried(one, along):
        return ties(facts, one, along, often, depth)
    name, operands, _ = origin
    values = _values(name, operands)
    if (name in RANKED and len(operands) > 1) or (
        name in LARGEST and any(_along(value, along) > 1 for value in values)
    ):
        # two units may have the same pair for their largest
        return EVER
    each = [_equal(facts, value, along, depth) for value in values]
    found = [often for often in each if often is not None]
    if not found or (None in each and (name in PLACED or name.startswith("scatter"))):
        # there are places with nothing else
        return EVER
    if name in PRODUCTS:
        return _product(facts, one, values, each, depth)
    if name not in KEPT or (max(found) == ZERO and name not in ZEROS):
        return EVER
    return max(found)


def _product(facts: Facts, one: Occurrence, values, each, depth: int) -> int:
    """Entries that are told apart by one factor, unless another is zero."""
    best = min(often for often in each if often is not None)
    others = [
        (value, often) for k, (value, often) in enumerate(zip(values, each, strict=True)) if k != each.index(best)
    ]
    if best in (NEVER, REPLACED) and any(
        often in (ZERO, EVER) or (often is None and _is_silent(facts, value, _summed(one, value), depth))
        for value, often in others
    ):
        return ZERO
    return best


def _summed(one: Occurrence, operand: Occurrence) -> Along:
    """The dimensions of an operand over which a result is summed."""
    return frozenset(leaves_of(operand.dims)).difference(leaves_of(one.dims))


def _is_silent(facts: Facts, one: Occurrence, along: Along, depth: int) -> bool:
    """Whether entries along these dimensions, or all that are the same along them, may be zero at once."""
    if one.number in facts.known:
        return not facts.known[one.number].all()
    if one.origin is None or depth > FURTHEST:
        return one.number in facts.gaps
    if one.number in facts.zeros or not jnp.issubdtype(one.dtype, jnp.inexact):
        return True
    # others are summed over on the way, and come again
    along = along.intersection(leaves_of(one.dims))
    if (one.number, along) not in facts.silent:
        facts.silent[one.number, along] = False
        facts.silent[one.number, along] = _all_zero(facts, one, one.origin, along, depth + 1)
    return facts.silent[one.number, along]


def _all_zero(facts: Facts, one: Occurrence, origin: Origin, along: Along, depth: int) -> bool:
    if is_tried(one, along):
        often = lambda drawn, depth: SILENT if _is_silent(facts, drawn, along, depth) else NEVER
        count = math.prod(leaf.size for leaf in along.intersection(leaves_of(one.dims)))
        return vanishes(facts, one, along, 1 if count < MANY else SOME, often, depth)
    name, operands, _ = origin
    if name in RANKED:
        return True
    values = _values(name, operands)
    summed = {value.number: _summed(one, value) if name in SUMMED else frozenset() for value in values}
    silent = [_is_silent(facts, value, along | summed[value.number], depth) for value in values]
    if name in PRODUCTS | PLACED or name.startswith("scatter"):
        return any(silent)
    return name in ZEROS | {"gather", "dynamic_slice"} and all(silent)
