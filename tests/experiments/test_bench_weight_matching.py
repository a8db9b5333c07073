"""The plain version that weight matching is timed beside does the same work."""

import bench_weight_matching as bench
import numpy as np
import pytest


@pytest.mark.parametrize("name", ["MLP 64-32-32-32-10", "ResNet20"])
def test_plain_numpy_finds_the_same_permutations(name):
    runs = bench.runs_of(name)
    found, plain = runs["dwalign"]().perms, runs["plain"]()
    assert set(found) == set(plain)
    assert all(np.array_equal(found[group], plain[group]) for group in plain)
    assert any(np.any(perm != np.arange(len(perm))) for perm in plain.values())
