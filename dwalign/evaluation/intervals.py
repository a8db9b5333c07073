"""Means with 95 % intervals over aligner seeds and pairs."""

from typing import NamedTuple

import numpy as np

from dwalign.bounds import Amount, Count, Part, bounded


class Interval(NamedTuple):
    """A mean and its bootstrap interval."""

    mean: float
    low: float
    high: float


@bounded
def interval(values, *, level: Part = 0.95, resamples: Count = 2000, seed: Amount = 0) -> Interval:
    """Hierarchical percentile bootstrap: seeds are drawn with replacement, then pairs, the same for all seeds.

    Args:
      values: `[pairs]`, or `[seeds, pairs]` where a method has aligner seeds.
      level: of the interval.
      resamples, seed: of the bootstrap; the result is deterministic.

    Raises:
      ValueError: values of another shape, none at all, or some that are not finite.
    """
    values = np.atleast_2d(np.asarray(values, np.float64))
    if values.ndim != 2 or not values.size:
        raise ValueError(f"interval: values must be [pairs] or [seeds, pairs] and not empty, found {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"interval: values must be finite, found {int((~np.isfinite(values)).sum())} that are not")
    random = np.random.default_rng(seed)
    seeds = random.integers(0, values.shape[0], (resamples, values.shape[0], 1))
    pairs = random.integers(0, values.shape[1], (resamples, 1, values.shape[1]))
    means = values[seeds, pairs].mean((1, 2))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))
