"""Batch statistics of networks whose weights were changed."""

import chex
import jax
import numpy as np

from dwalign.networks import mlp, resnet20
from dwalign.program import reset_statistics
from dwalign.symmetry import permute, random_perms


def test_new_statistics_are_those_of_the_inputs():
    net = resnet20((8, 8, 1), width=4, depth=8)
    params, inputs = net.init(jax.random.key(0)), 3.0 + jax.random.normal(jax.random.key(1), (12, 8, 8, 1))
    fresh = net.respond(params, inputs)
    renewed = reset_statistics(net, params, inputs)
    np.testing.assert_allclose(net.apply(renewed, inputs), fresh, rtol=1e-4, atol=1e-5)
    assert np.abs(net.apply(params, inputs) - fresh).max() > 0.1
    chex.assert_trees_all_equal(renewed["params"], params["params"])
    # the mean of those of two halves, and a remainder that is left out
    halves = [reset_statistics(net, params, half)["batch_stats"] for half in (inputs[:5], inputs[5:10])]
    mean = jax.tree.map(lambda x, y: 0.5 * (x + y), *halves)
    chex.assert_trees_all_close(
        reset_statistics(net, params, inputs, chunk=5)["batch_stats"], mean, rtol=1e-5, atol=1e-6
    )


def test_statistics_move_with_their_units():
    net = resnet20((8, 8, 1), width=4, depth=8)
    params, inputs = net.init(jax.random.key(0)), jax.random.normal(jax.random.key(1), (6, 8, 8, 1))
    perms = random_perms(net.spec, jax.random.key(2))
    one = reset_statistics(net, permute(net.spec, params, perms), inputs)
    other = permute(net.spec, reset_statistics(net, params, inputs), perms)
    chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-5)


def test_networks_without_statistics_stay_as_they_are():
    net = mlp(4, (3,), 2)
    params = net.init(jax.random.key(0))
    assert reset_statistics(net, params, np.zeros((5, 4))) is params
