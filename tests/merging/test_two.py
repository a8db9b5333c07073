"""The average of two networks, layer by layer."""

import jax
import numpy as np
import pytest

from dwalign.merging import average
from dwalign.networks import mlp, vgg
from dwalign.program import Data
from dwalign.symmetry import identity, interpolate, mean
from tests import drawn

NET = mlp(4, (6, 5), 3)
A, B = (drawn.weights(NET.params, seed) for seed in (1, 2))
SAME = identity(NET.spec)


def layer(params, number):
    return jax.tree.leaves(params["params"][f"dense_{number}"])


def between(one, two, weight):
    return [(1 - weight) * x + weight * y for x, y in zip(one, two, strict=True)]


def assert_equal(one, two):
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_every_layer_has_a_weight_of_its_own():
    weights = {"*": 0.25, "params/dense_1/*": 0.75, "*/dense_2/bias": 0.0}
    merged = average(NET, A, B, SAME, weight=weights)
    for number, weight in enumerate((0.25, 0.75)):
        assert_equal(layer(merged, number), between(layer(A, number), layer(B, number), weight))
    bias, kernel = layer(merged, 2)
    np.testing.assert_array_equal(bias, A["params"]["dense_2"]["bias"])
    assert_equal([kernel], between(layer(A, 2)[1:], layer(B, 2)[1:], 0.25))


def test_a_group_names_all_arrays_that_carry_it():
    merged = average(NET, A, B, SAME, weight={"h1": 1.0})
    assert_equal(layer(merged, 0), between(layer(A, 0), layer(B, 0), 0.5))
    assert_equal(layer(merged, 1), layer(B, 1))
    assert_equal(layer(merged, 2)[1:], layer(B, 2)[1:])


def test_what_is_kept_is_that_of_the_first():
    merged = average(NET, A, B, drawn.perms(NET.spec), weight=0.3, keep=("*/dense_2/*",))
    for x, y in zip(layer(merged, 2), layer(A, 2), strict=True):
        np.testing.assert_array_equal(x, y)
    assert np.abs(layer(merged, 1)[1] - layer(A, 1)[1]).max() > 0.1


def test_a_name_that_fits_nothing():
    with pytest.raises(ValueError, match=r"'dense_7/\*' must be a group or fit the path.*params/dense_0/bias"):
        average(NET, A, B, SAME, keep=("dense_7/*",))
    with pytest.raises(ValueError, match=r"weight must be a scalar.*\(2,\)"):
        average(NET, A, B, SAME, weight={"h0": np.ones(2)})


def test_the_mean_of_many():
    many = [drawn.weights(NET.params, seed) for seed in range(4)]
    expected = jax.tree.map(lambda *leaves: sum(w * x for w, x in zip((1, 2, 0, 1), leaves, strict=True)) / 4, *many)
    assert_equal(*map(jax.tree.leaves, (mean(NET.spec, many, [1, 2, 0, 1]), expected)))
    assert_equal(*map(jax.tree.leaves, (mean(NET.spec, many[:2]), interpolate(NET.spec, *many[:2]))))
    with pytest.raises(ValueError, match="a weight for every network, found 3 for 4"):
        mean(NET.spec, many, [1, 2, 3])


def test_statistics_are_renewed_or_warned_of():
    net = vgg((4, 4, 1), ((3,),), (), 2, "batch")
    a, b = (drawn.weights(net.params, seed) for seed in (1, 2))
    same, inputs = identity(net.spec), drawn.normal(6, 4, 4, 1)
    with pytest.warns(UserWarning, match="must be renewed"):
        stale = average(net, a, b, same)
    fresh = average(net, a, b, same, data=Data(inputs))
    assert np.abs(stale["batch_stats"]["norm_0_0"]["mean"] - fresh["batch_stats"]["norm_0_0"]["mean"]).max() > 0.01
