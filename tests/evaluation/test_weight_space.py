"""Distances after alignment see functions, not labels of units; what is read off distances is checked on small ones."""

import jax
import numpy as np
import pytest

from dwalign import Alignment, Method
from dwalign.evaluation import aligned_distances, cluster_agreement, planar_map, retrieval_precision
from dwalign.matching import feature_matching
from dwalign.networks import mlp
from dwalign.symmetry import permute, random_perms, take_networks
from tests import drawn

NET = mlp(5, (8, 6), 3)


def test_relabelled_networks_are_the_same_point():
    a, b = (drawn.weights(NET.params, seed) for seed in range(2))
    copies = [permute(NET.spec, v, drawn.perms(NET.spec, 7 + k)) for k, v in enumerate((a, b, a, b))]
    zoo = jax.tree.map(lambda *leaves: np.stack(leaves), *copies)
    labels = np.array([0, 1, 0, 1])
    found = aligned_distances(NET.spec, zoo, feature_matching.using(channels=8, rounds=1), key=jax.random.key(1))
    assert found[0, 2] < 1e-5 and found[1, 3] < 1e-5 and found[0, 1] > 1
    np.testing.assert_array_equal(found, found.T)
    assert retrieval_precision(found, labels) == cluster_agreement(found, labels) == 1
    unaligned = aligned_distances(NET.spec, zoo, "naive")
    assert unaligned[0, 2] > 1


def test_other_networks_of_a_zoo_change_no_distance():
    zoo = jax.tree.map(lambda *leaves: np.stack(leaves), *(drawn.weights(NET.params, seed) for seed in range(4)))
    few = take_networks(zoo, slice(3))
    random_orders = lambda spec, a, b, *, key: Alignment(random_perms(spec, key))
    draws = Method("draws", random_orders, "", "", "nothing")
    found, same = (aligned_distances(NET.spec, one, draws, key=jax.random.key(0)) for one in (zoo, few))
    np.testing.assert_allclose(found[:3, :3], same, rtol=1e-6)


def test_precision():
    points = np.array([0.0, 1.0, 10.0, 11.0, 12.0, 30.0])
    distances = np.abs(points[:, None] - points)
    assert retrieval_precision(distances, np.array([0, 0, 1, 1, 1, 2])) == 1
    # each asks its nearest one: 0 and 10 find a stranger, 11 and 1 too
    assert retrieval_precision(distances[:4, :4], np.array([0, 1, 1, 0])) == 0
    with pytest.raises(ValueError, match="share a label"):
        retrieval_precision(distances, np.arange(6))


def test_map_keeps_planar_distances():
    points = np.random.default_rng(0).normal(size=(7, 2))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    found = planar_map(distances)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found, axis=-1), distances, atol=1e-6)
