"""The laws of Deep-Align, for every encoder and every setting of the parameters: they hold untrained."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.assignment import hungarian, soft_assign
from dwalign.deepalign import Aligner, AlignerConfig, deep_align, make_model
from dwalign.symmetry import (
    Axes,
    PermutationSpec,
    SpecError,
    compose,
    inverse,
    permute,
    take_networks,
    transpose,
)
from tests.deepalign.untrained import related, untrained

CONFIG = AlignerConfig(channels=4, depth=1, features=8, updates=1, probes=24)


@pytest.fixture(scope="module")
def aligner(model, networks):
    return Aligner(model, untrained(model, take_networks(networks, 0)))


def test_equivariance_swap_and_exactness(aligner, networks):
    spec = aligner.model.spec
    a, b = take_networks(networks, 0), take_networks(networks, 1)
    firsts, seconds, (g, h, hidden) = related(spec, a, b, planted=29)

    def solve(a, b):
        found = deep_align(spec, a, b, aligner=aligner)
        return found, soft_assign(found.scores)

    found, soft = jax.tree.map(np.asarray, jax.jit(jax.vmap(solve))(firsts, seconds))
    perms = [take_networks(found.perms, k) for k in range(32)]
    chex.assert_trees_all_equal(perms[1], compose(spec, g, compose(spec, perms[0], inverse(spec, h))))
    chex.assert_trees_all_equal(perms[2], inverse(spec, perms[0]))
    chex.assert_trees_all_equal(perms[3:], hidden)
    for q in (found.scores, soft):
        first, moved, swapped = (take_networks(q, k) for k in range(3))
        expected = {group: one[g[group]][:, h[group]] for group, one in first.items()}
        chex.assert_trees_all_close(moved, expected, atol=2e-3)
        chex.assert_trees_all_close(swapped, transpose(spec, first), atol=2e-3)


def test_the_method_gives_the_scores_and_permutations_of_the_aligner_eagerly_and_vmapped(graph_model, networks):
    a, b = take_networks(networks, np.arange(2)), take_networks(networks, np.arange(2, 4))
    aligner = Aligner(graph_model, untrained(graph_model, take_networks(networks, 0)))
    scores = jax.jit(jax.vmap(aligner.scores))(a, b)
    found = deep_align(graph_model.spec, take_networks(a, 1), take_networks(b, 1), aligner=aligner)
    chex.assert_trees_all_close(take_networks(scores, 1), found.scores, atol=1e-4)
    chex.assert_trees_all_equal(take_networks(hungarian(scores), 1), found.perms)


@pytest.mark.parametrize("outputs", ["logits", "values"])
def test_descent_brings_the_merged_network_closer_to_both(outputs, network, networks, data):
    shape = dataclasses.replace(CONFIG, encoder="graph", depth=1, updates=0, descent=5, outputs=outputs)
    model = make_model(network, shape, data.inputs)
    without = make_model(network, dataclasses.replace(shape, descent=0), data.inputs)
    variables = untrained(model, take_networks(networks, 0))
    variables["params"]["inputs"] = model.inputs
    answer = jax.nn.softmax if outputs == "logits" else lambda x: x

    def disagreement(aligner, a, b):
        merged = permute(model.spec, b, deep_align(model.spec, a, b, aligner=aligner).perms)
        found = network.apply(jax.tree.map(lambda x, y: 0.5 * (x + y), a, merged), model.inputs)
        wanted = 0.5 * (answer(network.apply(a, model.inputs)) + answer(network.apply(b, model.inputs)))
        if outputs == "logits":
            return -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(found), -1))
        return jnp.mean((found - wanted) ** 2)

    def both(a, b):
        return [disagreement(Aligner(one, variables), a, b) for one in (without, model)]

    before, after = jax.jit(jax.vmap(both))(*(take_networks(networks, np.arange(k, 12, 2)) for k in range(2)))
    assert jnp.all(after <= before + 1e-6) and (after < before - 1e-6).sum() >= 3


@pytest.mark.parametrize("missing", [dict(function=None), dict(inputs=None), dict(outputs="labels")])
def test_descent_says_what_it_needs(missing, network, networks, data):
    model = make_model(network, dataclasses.replace(CONFIG, encoder="graph", descent=1), data.inputs).clone(**missing)
    example = take_networks(networks, 0)
    with pytest.raises(ValueError, match="descent needs the function"):
        jax.eval_shape(model.init, jax.random.key(0), example, example)


def test_foreign_spec(aligner):
    other = PermutationSpec({"w": Axes(None, "h")}, {"h": 2})
    with pytest.raises(SpecError, match="train one for this architecture"):
        deep_align(other, {"w": jnp.ones((3, 2))}, {"w": jnp.ones((3, 2))}, aligner=aligner)
