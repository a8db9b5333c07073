"""Batch statistics of networks whose weights were changed."""

import functools

import chex
import jax
import numpy as np

from dwalign.merging import reset_statistics
from dwalign.networks import mlp, resnet20
from dwalign.symmetry import permute
from tests import drawn
from tests.compiled import compilations

NET = resnet20((8, 8, 1), width=4, depth=8)
PARAMS, INPUTS = drawn.started(NET.init), 3.0 + drawn.normal(12, 8, 8, 1)
renew = functools.partial(reset_statistics, NET)


def test_new_statistics_are_those_of_the_inputs():
    apply = jax.jit(NET.apply)
    fresh = jax.jit(NET.respond)(PARAMS, INPUTS)
    renewed = renew(PARAMS, INPUTS)
    np.testing.assert_allclose(apply(renewed, INPUTS), fresh, rtol=1e-4, atol=1e-4)
    assert np.abs(apply(PARAMS, INPUTS) - fresh).max() > 0.1
    chex.assert_trees_all_equal(renewed["params"], PARAMS["params"])
    # the mean of those of two halves, and a remainder that is left out
    halves = [renew(PARAMS, half)["batch_stats"] for half in (INPUTS[:5], INPUTS[5:10])]
    mean = jax.tree.map(lambda x, y: 0.5 * (np.asarray(x) + y), *halves)
    chunked = renew(PARAMS, INPUTS, chunk=5)
    chex.assert_trees_all_close(chunked["batch_stats"], mean, rtol=1e-4, atol=1e-5)


def test_statistics_move_with_their_units():
    perms = drawn.perms(NET.spec)
    one = renew(permute(NET.spec, PARAMS, perms), INPUTS)
    other = permute(NET.spec, jax.tree.map(np.asarray, renew(PARAMS, INPUTS)), perms)
    chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-4)


def test_networks_without_statistics_stay_as_they_are():
    net = mlp(4, (3,), 2)
    params = drawn.started(net.init)
    assert reset_statistics(net, params, np.zeros((5, 4))) is params


def test_another_network_compiles_nothing():
    renew(PARAMS, INPUTS)
    with compilations() as seen:
        renew(drawn.started(NET.init, seed=1), INPUTS)
    assert not seen
