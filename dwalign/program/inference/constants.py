"""What the values of an array say about its units: constants of the program, and masks among the parameters.

A mask that connects some units and not others, as in an autoregressive network, is structure wherever it is kept: units
that it treats alike can be exchanged, all others stay. Truth values among the parameters are one where those that are
alike lie side by side or take turns, so that there are at most half as many kinds as units. Others, such as those of
pruned weights, belong to their units and go with them.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.program.inference.atoms import (
    UNIFORM,
    Atom,
    Reason,
    concatenation,
    fresh,
    product,
    turns,
    uniform,
)
from dwalign.program.inference.facts import CONSTANT, Dims

PyTree = Any
EMPTY = Reason("an array without entries")
MASK = Reason("a mask, which stays as it is")
# of a constant; what has more of them is no mask of units
MOST_PIECES = 64


def fresh_dims(shape, why: Reason | None = None, owners: int = 0) -> Dims:
    return [None if n == 1 else fresh(n, EMPTY if 0 in shape else why, owners) for n in shape]


def constant_dims(value: Any) -> Dims:
    """A constant is uniform along the dimensions along which it does not vary, and pins the others."""
    if not hasattr(value, "shape") or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return fresh_dims(np.shape(value), CONSTANT)
    array = np.asarray(value)
    # zeros of two signs are equal, but not what is computed of them
    word = min(array.dtype.itemsize, 8)
    bits = np.ascontiguousarray(array)[..., None].view(f"u{word}")
    counts = jnp.issubdtype(array.dtype, jnp.integer)
    return [_constant_dim(np.moveaxis(bits, d, 0), counts) for d in range(array.ndim)]


def _constant_dim(rows: np.ndarray, counts: bool) -> Atom | None:
    """Of a mask or the like: rows that are alike may lie side by side, or come again in every period.

    Of whole numbers indices are made.
    """
    count = len(rows)
    if rows.size == 0 or np.all(rows == rows[:1]):
        return uniform(count)
    if counts:
        return fresh(count, CONSTANT)
    starts = np.flatnonzero([True, *(rows[1:] != rows[:-1]).reshape(count - 1, -1).any(1)])
    sizes = np.diff([*starts, count]).tolist()
    if len(sizes) == count:
        again = (size for size in range(2, count) if np.array_equal(rows[size], rows[0]))
        period = next((size for size in again if np.array_equal(rows[size:], rows[:-size])), count)
        if count % period == 0:
            return product([fresh(count // period, UNIFORM), fresh(period, CONSTANT)])
        apart = turns([fresh(-(-(count - k) // period), UNIFORM) for k in range(period)])
        return apart if period <= MOST_PIECES else fresh(count, CONSTANT)
    if len(set(sizes)) == 1:
        return product([fresh(len(sizes), CONSTANT), fresh(sizes[0], UNIFORM)])
    pieces: list[Atom] = []
    for alone, found in itertools.groupby(sizes, key=lambda size: size == 1):
        run = list(found)
        # single rows one after the other are one piece
        pieces += [fresh(len(run), CONSTANT)] if alone else [fresh(size, UNIFORM) for size in run]
    return concatenation(pieces) if len(pieces) <= MOST_PIECES else fresh(count, CONSTANT)


def masks_of(params: PyTree) -> dict[int, np.ndarray]:
    """The masks among the parameters whose values are known, by number."""
    return {k: np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(params)) if _is_mask(leaf)}


def with_masks(shapes: PyTree, params: PyTree) -> PyTree:
    """The shapes and types of parameters, and of masks what `params` says they are."""
    flat, treedef = jax.tree.flatten(shapes)
    masks = masks_of(params)
    return treedef.unflatten([masks.get(k, leaf) for k, leaf in enumerate(flat)])


def _is_mask(leaf: Any) -> bool:
    if not isinstance(leaf, np.ndarray | jax.Array) or isinstance(leaf, jax.core.Tracer) or leaf.dtype != np.bool_:
        return False
    dims = (atom for atom in constant_dims(leaf) if atom is not None)
    return any(1 < _count_classes(atom) <= atom.size // 2 for atom in dims)


def _count_classes(atom: Atom) -> int:
    """How many kinds of units there are along a dimension of a mask."""
    if atom.kind == "product":
        return math.prod(_count_classes(child) for child in atom.children)
    if atom.kind == "leaf":
        return 1 if atom.reason is UNIFORM else atom.size
    return sum(_count_classes(child) for child in atom.children)
