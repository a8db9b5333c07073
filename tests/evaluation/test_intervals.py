"""Bootstrap intervals: around the mean, narrower with more data, over seeds and pairs."""

import numpy as np
import pytest

from dwalign.evaluation import interval

RNG = np.random.default_rng(0)


def width(values, **options):
    found = interval(values, **options)
    return found.high - found.low


def test_holds_the_mean():
    for shape in [(10,), (1, 30), (3, 50)]:
        values = RNG.exponential(size=shape)
        found = interval(values)
        assert found.mean == pytest.approx(values.mean())
        assert found.low < found.mean < found.high


def test_width_shrinks_with_the_number_of_pairs():
    wide, narrow = width(RNG.normal(size=25)), width(RNG.normal(size=2500))
    assert narrow == pytest.approx(wide / 10, rel=0.4)
    assert narrow == pytest.approx(2 * 1.96 / 50, rel=0.15)


def test_covers_the_truth_about_95_times_in_100():
    hits = [low < 0 < high for _, low, high in (interval(RNG.normal(size=40), resamples=400) for _ in range(300))]
    assert 0.89 < np.mean(hits) < 0.99


def test_seeds_that_differ_widen_it():
    pairs = RNG.normal(size=(1, 50))
    alike, apart = np.repeat(pairs, 3, 0), pairs + np.array([[-1.0], [0.0], [1.0]])
    assert width(apart) > 2 * width(alike)
    assert width(alike) == pytest.approx(width(pairs[0]), rel=0.15)


def test_pairs_are_shared_by_the_seeds():
    """More seeds on the same pairs do not pretend to be more pairs."""
    pairs = RNG.normal(size=50)
    assert width(np.tile(pairs, (20, 1))) == pytest.approx(width(pairs), rel=0.15)


def test_deterministic_and_level():
    values = RNG.normal(size=(3, 20))
    assert interval(values) == interval(values.tolist())
    assert interval(values, seed=1) != interval(values)
    assert width(values, level=0.5) < width(values)


def test_one_value():
    assert interval([[0.3]]) == (0.3, 0.3, 0.3)


@pytest.mark.parametrize("values", [[], [[]], np.zeros((2, 2, 2))])
def test_shape(values):
    with pytest.raises(ValueError, match=r"\[pairs\] or \[seeds, pairs\]"):
        interval(values)


def test_not_finite():
    with pytest.raises(ValueError, match="finite, found 1"):
        interval([1.0, np.nan])
