"""Lists of numbers in place of arrays.

To JAX they are trees of numbers. Here they are arrays wherever an array is asked for: scores, permutations, data. In
parameters, where any list may be a tree, they are refused.
"""

import functools
from collections.abc import Callable
from numbers import Number
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

PyTree = Any
P = ParamSpec("P")
T = TypeVar("T")


def as_arrays(tree: PyTree) -> PyTree:
    """What NumPy takes for an array (lists of numbers, tensors of torch, arrays in files) as one; all else stays.

    A list of arrays is a tree of them, and so is a tuple of anything.

    >>> as_arrays(([[1.0, 2.0], [3.0, 4.0]], 3))[0].shape
    (2, 2)
    """
    return jax.tree.map(_array, tree, is_leaf=of_numbers)


def with_lists(function: Callable[P, T]) -> Callable[P, T]:
    """A function that takes lists of numbers for its arrays.

    >>> with_lists(lambda x: x.shape)([[1, 2, 3]])
    (1, 3)
    """

    @functools.wraps(function)
    def taken(*args: P.args, **kwargs: P.kwargs) -> T:
        return function(*as_arrays(args), **as_arrays(kwargs))

    return taken


def _array(leaf: Any) -> Any:
    if isinstance(leaf, list):
        try:
            array = np.asarray(leaf)
        except ValueError as error:
            raise ValueError("lists of numbers must be as long as those beside them, found several lengths") from error
        # JAX has 32 bits for these unless it is told otherwise
        return array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    known = isinstance(leaf, jax.Array | np.ndarray | np.generic)
    return np.asarray(leaf) if hasattr(leaf, "__array__") and not known else leaf


def of_numbers(node: Any) -> bool:
    """Whether it is a list of numbers, or of such lists."""
    return isinstance(node, list) and bool(node) and all(map(_is_numeric, node))


def _is_numeric(item: Any) -> bool:
    return isinstance(item, Number) or (isinstance(item, list | tuple) and all(map(_is_numeric, item)))
