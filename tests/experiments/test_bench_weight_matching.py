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


def test_plain_numpy_finds_the_permutations_of_a_batch():
    runs = bench.runs_of_batch(width=8, batch=3)
    found, plain = runs["dwalign"](), runs["plain"]()
    for k, one in enumerate(plain):
        assert set(found) == set(one) and all(np.array_equal(found[group][k], perm) for group, perm in one.items())
    assert all(times > 0 for of in bench.batches(8, 3, repeats=1, most=0.1).values() for times in of)
