"""Values that nothing can be computed with, counted in arrays on the host."""

from collections.abc import Callable, Iterable

import numpy as np


def count_values(array: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many values are `wrong`, such as `np.isnan`: an array to bools that finite numbers are False for.

    >>> count_values(np.array([1.0, np.inf, np.nan]), np.isnan), count_values(np.ones(3), np.isnan)
    (1, 0)
    """
    return 0 if all_finite([array]) else int(np.sum(wrong(array)))


def all_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Whether no value is NaN or infinite; False also where a sum is more than its type holds, though all values are.

    >>> all_finite([np.ones(3), np.zeros(2)]), all_finite([np.array([1.0, np.inf])])
    (True, False)
    """
    # a sum that is finite has no other terms, and reads a large array several times faster than all values are judged
    with np.errstate(over="ignore", invalid="ignore"):
        return all(np.isfinite(array.sum()) for array in arrays)
