"""Values that nothing can be computed with, counted in arrays on the host."""

import math
from collections.abc import Callable

import numpy as np


def count_values(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many values are `wrong`, such as `np.isnan`: an array to bools that finite numbers are False for.

    >>> count_values(np.array([1.0, np.inf, np.nan]), np.isnan), count_values(np.ones(3), np.isnan)
    (1, 0)
    """
    return 0 if all_finite(array) else int(np.sum(wrong(array)))


def all_finite(array: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; False also where a sum is more than its type holds.

    A sum that is finite has no other terms: an array is read many times faster than all its values are judged.

    >>> all_finite(np.ones(3)), all_finite(np.array([1.0, np.inf]))
    (True, False)
    """
    if _has_squares(array):
        return math.isfinite(square(array))
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(float(array.sum()))


def square(array: np.ndarray) -> float:
    """The sum of the squares of all magnitudes; NaN for narrow types, whose products would ask for a copy."""
    if not _has_squares(array):
        return math.nan
    # in the order in which they lie: no copy of an array that is transposed
    flat = array.ravel("K")
    return float(np.vdot(flat, flat).real)


def _has_squares(array: np.ndarray) -> bool:
    return array.dtype.kind in "fc" and array.dtype.itemsize >= 4
