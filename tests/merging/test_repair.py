"""REPAIR: what merging took from the pre-activations is given back."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.merging import repair
from dwalign.merging.repair import OUTPUTS, find_handles
from dwalign.networks import cnn, mlp, resnet, vgg
from dwalign.program import Data, network
from dwalign.symmetry import mean
from tests import drawn

NETWORKS = {
    "mlp": (mlp(6, (7, 5), 3), (6,)),
    "cnn": (cnn((4, 4, 1), (3,), (), 2), (4, 4, 1)),
}


def moments(net, params, inputs):
    pre = jax.jit(net.capture)(params, inputs)[1].pre
    return {g: (np.mean(x, (0, 1)), np.std(x, (0, 1))) for g, x in pre.items()}


def rescaled(params, layer, factor, shift):
    """The network with a layer whose units all answer with `factor` times what they did, and `shift` more."""
    kernel, bias = (params["params"][layer][name] for name in ("kernel", "bias"))
    changed = {"kernel": factor * kernel, "bias": factor * bias + shift}
    return {"params": params["params"] | {layer: changed}}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_planted_collapse_is_undone(name):
    net, shape = NETWORKS[name]
    params, data = drawn.weights(net.params), Data(5 + drawn.normal(40, *shape))
    collapsed = params
    for k, layer in enumerate(params["params"]):
        collapsed = rescaled(collapsed, layer, 0.3 + 0.2 * k, 0.7)
    assert np.abs(net.apply(collapsed, data.inputs) - net.apply(params, data.inputs)).max() > 0.5
    chex.assert_trees_all_close(repair(net, collapsed, [params], data), params, rtol=1e-3, atol=1e-3)
    last = list(params["params"])[-1]
    hidden = repair(net, collapsed, [params], data, outputs=False)
    chex.assert_trees_all_equal(hidden["params"].pop(last), collapsed["params"][last])
    rest = {layer: params["params"][layer] for layer in hidden["params"]}
    chex.assert_trees_all_close(hidden["params"], rest, rtol=1e-3, atol=1e-3)


def test_moments_become_the_average_of_those_of_the_networks():
    net, shape = NETWORKS["mlp"]
    networks, data = [drawn.weights(net.params, seed) for seed in range(3)], Data(drawn.normal(50, *shape))
    merged = mean(net.spec, networks)
    repaired = repair(net, merged, networks, data, weights=[1, 1, 2], chunk=25)
    each = [moments(net, params, data.inputs) for params in networks]
    wanted = jax.tree.map(lambda x, y, z: (x + y + 2 * z) / 4, *each)
    chex.assert_trees_all_close(moments(net, repaired, data.inputs), wanted, rtol=1e-3, atol=1e-3)
    spreads = lambda found: {g: spread for g, (_, spread) in found.items()}
    scaled = moments(net, repair(net, merged, networks, data, weights=[1, 1, 2], shift=False), data.inputs)
    chex.assert_trees_all_close(spreads(scaled), spreads(wanted), rtol=1e-3, atol=1e-3)


def test_units_that_answer_nothing_stay_as_they_are():
    net, shape = NETWORKS["mlp"]
    params = drawn.weights(net.params)
    params["params"]["dense_0"]["kernel"][:, 2] = 0
    repaired = repair(net, params, [drawn.weights(net.params)], Data(drawn.normal(40, *shape)))
    assert np.all(repaired["params"]["dense_0"]["kernel"][:, 2] == 0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(repaired))


def test_groups_are_moved_by_the_arrays_that_write_them():
    paths = lambda net: {
        handle.group: ([net.spec.paths[k] for k in handle.scales], handle.shift is not None)
        for handle in find_handles(net)[1]
    }
    layer = vgg((4, 4, 1), ((3, 4),), (), 2, "layer")
    found = paths(layer)
    assert found[next(iter(found))] == ([f"['params']['norm_0_0']['{name}']" for name in ("bias", "scale")], True)
    plain = network(
        lambda params, x: jax.nn.relu(x @ params["up"]) @ params["down"],
        {"up": np.ones((3, 4)), "down": np.ones((4, 2))},
        np.ones((1, 3)),
    )
    assert paths(plain) == {"h0": (["['up']"], False), OUTPUTS: (["['down']"], False)}
    with pytest.warns(UserWarning, match=r"groups \['h0'\] cannot be scaled and shifted"):
        repair(plain, drawn.weights(plain.params), [drawn.weights(plain.params, 1)], Data(drawn.normal(9, 3)))


def test_a_network_of_which_no_group_can_be_moved():
    def normalised(params, x):
        units = x @ params["up"]
        return units / jnp.linalg.norm(units, axis=-1, keepdims=True) @ params["down"]

    net = network(normalised, {"up": np.ones((3, 4)), "down": np.ones((4, 2))}, np.ones((1, 3)))
    params = drawn.weights(net.params)
    with pytest.raises(ValueError, match="no group has arrays that scale its pre-activations"):
        repair(net, params, [params], Data(drawn.normal(5, 3)))


def test_batch_statistics_are_taken_anew():
    net = resnet((4, 4, 1), 3, (1,), 2)
    params, data = drawn.weights(net.params), Data(drawn.normal(12, 4, 4, 1))
    repaired = repair(net, params, [params], data)
    chex.assert_trees_all_equal(repaired["params"], params["params"])
    assert np.abs(repaired["batch_stats"]["norm"]["mean"] - params["batch_stats"]["norm"]["mean"]).max() > 0.1
