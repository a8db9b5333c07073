"""Values that nothing can be computed with, counted in arrays on the host."""

import math
from collections.abc import Callable, Iterable

import numpy as np


def count_values(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many values are `wrong`, such as `np.isnan`: an array to bools that finite numbers are False for.

    >>> count_values(np.array([1.0, np.inf, np.nan]), np.isnan), count_values(np.ones(3), np.isnan)
    (1, 0)
    """
    return 0 if math.isfinite(_square(array)) else int(np.sum(wrong(array)))


def all_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Whether no value is NaN or infinite; False also where a sum of squares is more than its type holds.

    >>> all_finite([np.ones(3), np.zeros(2)]), all_finite([np.array([1.0, np.inf])])
    (True, False)
    """
    return all(math.isfinite(_square(array)) for array in arrays)


def _square(array: np.ndarray) -> float:
    """The sum of the squares of all magnitudes, or of narrow types, whose products would ask for a copy, that of all.

    A sum that is finite has no other terms: an array is read many times faster than all its values are judged.
    """
    if array.dtype.kind in "fc" and array.dtype.itemsize >= 4:
        # in the order in which they lie: no copy of an array that is transposed
        flat = array.ravel("K")
        return float(np.vdot(flat, flat).real)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(array.sum())
