"""Over all networks: the declared symmetries hold, and builders, modules and configs agree."""

import json

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import KINDS, build
from dwalign.program import infer_spec
from dwalign.symmetry import correspondence, inverse, permute
from tests import drawn
from tests.networks.declared import CASES, traced


def difference(one, two):
    return np.max(np.abs(one - two)) / np.std(one)


@pytest.mark.parametrize("name", CASES)
def test_declared_symmetries_hold_and_every_array_matters(name):
    _, example, spec, _ = CASES[name]
    params, perms = drawn.weights(traced(name).params), drawn.perms(spec, seed=1)
    apply = lambda params: np.asarray(traced(name).apply(params, example))
    moved = permute(spec, params, perms)
    reference = apply(params)
    assert difference(reference, apply(moved)) < 2e-5
    chex.assert_trees_all_equal(permute(spec, moved, inverse(spec, perms)), params)
    # left out on any one array it is no symmetry
    leaves, treedef = jax.tree.flatten(moved)
    for k, (path, axes, before) in enumerate(zip(spec.paths, spec.leaves, jax.tree.leaves(params), strict=True)):
        assert np.array_equal(before, leaves[k]) != bool(axes.names() & set(spec.sizes)), path
        # without rotary embeddings the bias of keys adds the same to all scores of a query, which changes nothing
        idle = "['key']['bias']" in path and not CASES[name].config.get("rotary")
        if idle or np.array_equal(before, leaves[k]):
            continue
        broken = treedef.unflatten([*leaves[:k], before, *leaves[k + 1 :]])
        assert difference(reference, apply(broken)) > 1e-4, path


@pytest.mark.parametrize("name", CASES)
def test_builders_make_the_module_and_configs_rebuild_it(name):
    _, example, spec, config = CASES[name]
    net = build(json.loads(json.dumps(config)))
    assert config.items() <= net.config.items()
    if config != net.config:
        # the config of a network says more than what it was made from
        again = build(json.loads(json.dumps(net.config)))
        assert again.config == net.config and again.spec == net.spec
    # the same program on inputs of one kind makes the same parameters
    assert (net.example.shape[1:], net.example.dtype) == (example.shape[1:], example.dtype)
    params, apply = traced(name)
    net.spec.check(params)
    spec.check(params)
    assert str(jax.jit(net.apply).trace(params, example).jaxpr) == str(apply.trace(params, example).jaxpr)
    assert (net.train is None) == ("batch_stats" not in params)


@pytest.mark.parametrize("name", CASES)
def test_inferred_spec_is_the_declared_one(name):
    _, example, declared, _ = CASES[name]
    inferred = infer_spec(traced(name).apply, traced(name).params, example)
    names = correspondence(inferred, declared)
    assert names is not None, inferred.describe()
    assert set(names.values()) >= set(declared.sizes) and not inferred.unknown


def test_all_kinds_are_here():
    shorthands = {"resnet20", "resnet50"}
    assert {case.config["kind"] for case in CASES.values()} == set(KINDS) - shorthands
