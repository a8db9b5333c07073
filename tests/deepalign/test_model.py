"""The laws of Deep-Align, for every encoder and every setting of the parameters: they hold untrained."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.assignment import soft_assign
from dwalign.deepalign import Aligner, AlignerConfig, deep_align, make_model
from dwalign.symmetry import (
    Axes,
    PermutationSpec,
    SpecError,
    compose,
    inverse,
    permute,
    random_perms,
    take_networks,
    to_matrices,
    transpose,
)

CONFIG = AlignerConfig(channels=8, depth=1, features=16, updates=1, probes=24)


@pytest.fixture(scope="module")
def aligner(model, networks):
    example = take_networks(networks, 0)
    return Aligner(model, jax.jit(model.init)(jax.random.key(3), example, example))


@pytest.fixture(params=["eager", "jit", "vmap"])
def scores(request, aligner):
    """The scores of a pair, computed in three ways."""
    if request.param == "eager":
        return aligner.scores
    if request.param == "jit":
        return jax.jit(aligner.scores)
    many = jax.jit(jax.vmap(aligner.scores))
    stack = lambda v: jax.tree.map(lambda x: jnp.stack([x, x]), v)
    return lambda a, b: jax.tree.map(lambda q: q[1], many(stack(a), stack(b)))


def moved(matrices, g, h):
    """g Q h^T: rows in the order of g, columns in that of h."""
    return {name: q[g[name]][:, h[name]] for name, q in matrices.items()}


def test_equivariance(scores, model, networks):
    a, b = take_networks(networks, 0), take_networks(networks, 1)
    g, h = random_perms(model.spec, jax.random.key(4)), random_perms(model.spec, jax.random.key(5))
    found, expected = scores(permute(model.spec, a, g), permute(model.spec, b, h)), moved(scores(a, b), g, h)
    chex.assert_trees_all_close(found, expected, atol=2e-3)
    chex.assert_trees_all_close(soft_assign(found), moved(soft_assign(scores(a, b)), g, h), atol=2e-3)


def test_swap(scores, model, networks):
    a, b = take_networks(networks, 0), take_networks(networks, 1)
    chex.assert_trees_all_close(scores(b, a), transpose(model.spec, scores(a, b)), atol=2e-3)
    chex.assert_trees_all_close(soft_assign(scores(b, a)), transpose(model.spec, soft_assign(scores(a, b))), atol=2e-3)


def test_hard_equivariance_and_swap(aligner, networks):
    spec = aligner.model.spec
    solve = jax.jit(lambda a, b: deep_align(spec, a, b, aligner=aligner).perms)
    a, b = take_networks(networks, 0), take_networks(networks, 1)
    g, h = random_perms(spec, jax.random.key(4)), random_perms(spec, jax.random.key(5))
    perms = solve(a, b)
    expected = compose(spec, g, compose(spec, perms, inverse(spec, h)))
    chex.assert_trees_all_equal(solve(permute(spec, a, g), permute(spec, b, h)), expected)
    chex.assert_trees_all_equal(solve(b, a), inverse(spec, perms))
    chex.assert_trees_all_equal(to_matrices(solve(b, a)), transpose(spec, to_matrices(perms)))


def test_exact_on_planted_permutations_untrained(aligner, network):
    spec = aligner.model.spec

    def draw(key):
        v, perm_key = network.init(key), jax.random.fold_in(key, 1)
        v = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.fold_in(key, x.size), x.shape), v)
        planted = random_perms(spec, perm_key)
        found = deep_align(spec, v, permute(spec, v, planted), aligner=aligner).perms
        wanted = inverse(spec, planted)
        return jnp.all(jnp.stack([jnp.all(found[g] == wanted[g]) for g in spec.sizes]))

    assert int(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(6), 100)).sum()) == 100


@pytest.mark.parametrize("outputs", ["logits", "values"])
def test_descent_brings_the_merged_network_closer_to_both(outputs, network, networks, data):
    shape = dataclasses.replace(CONFIG, encoder="graph", descent=5, outputs=outputs)
    model = make_model(network, shape, data.inputs)
    without = make_model(network, dataclasses.replace(shape, descent=0), data.inputs)
    example = take_networks(networks, 0)
    variables = jax.jit(model.init)(jax.random.key(3), example, example)
    answer = jax.nn.softmax if outputs == "logits" else lambda x: x

    def disagreement(aligner, a, b):
        merged = permute(model.spec, b, deep_align(model.spec, a, b, aligner=aligner).perms)
        found = network.apply(jax.tree.map(lambda x, y: 0.5 * (x + y), a, merged), model.inputs)
        wanted = 0.5 * (answer(network.apply(a, model.inputs)) + answer(network.apply(b, model.inputs)))
        if outputs == "logits":
            return -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(found), -1))
        return jnp.mean((found - wanted) ** 2)

    pairs = take_networks(networks, jnp.arange(0, 12, 2)), take_networks(networks, jnp.arange(1, 12, 2))
    before, after = (
        jax.jit(jax.vmap(lambda a, b, m=m: disagreement(Aligner(m, variables), a, b)))(*pairs) for m in (without, model)
    )
    assert jnp.all(after <= before + 1e-6) and (after < before - 1e-6).sum() >= 3


@pytest.mark.parametrize("missing", [dict(function=None), dict(inputs=None), dict(outputs="labels")])
def test_descent_says_what_it_needs(missing, network, networks, data):
    model = make_model(network, dataclasses.replace(CONFIG, encoder="graph", descent=1), data.inputs).clone(**missing)
    example = take_networks(networks, 0)
    with pytest.raises(ValueError, match="descent needs the function"):
        model.init(jax.random.key(0), example, example)


def test_foreign_spec(aligner):
    other = PermutationSpec({"w": Axes(None, "h")}, {"h": 2})
    with pytest.raises(SpecError, match="train one for this architecture"):
        deep_align(other, {"w": jnp.ones((3, 2))}, {"w": jnp.ones((3, 2))}, aligner=aligner)
