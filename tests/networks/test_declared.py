"""Over all networks: the declared symmetries hold, and builders, modules and configs agree."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks import KINDS, build
from dwalign.program import infer_spec
from dwalign.symmetry import correspondence, identity, inverse, permute
from tests.networks.declared import CASES, randomised


def difference(one, two):
    return float(jnp.max(jnp.abs(one - two)) / jnp.std(one))


@pytest.mark.parametrize("name", CASES)
def test_declared_symmetries_hold_and_every_array_matters(name):
    module, example, spec, _ = CASES[name]
    params = randomised(module, example)
    apply = jax.jit(lambda params: module.apply(params, example))
    act = jax.jit(lambda params, perms: permute(spec, params, perms))
    rng = np.random.default_rng(1)
    perms = {g: rng.permuted(perm, axis=-1) for g, perm in identity(spec).items()}
    reference, moved = apply(params), act(params, perms)
    assert difference(reference, apply(moved)) < 2e-5
    chex.assert_trees_all_equal(act(moved, inverse(spec, perms)), params)
    # left out on any one array it is no symmetry
    leaves, treedef = jax.tree.flatten(moved)
    for k, (path, before) in enumerate(zip(spec.paths, jax.tree.leaves(params), strict=True)):
        # without rotary embeddings the bias of keys adds the same to all scores of a query, which changes nothing
        idle = "['key']['bias']" in path and not CASES[name].config.get("rotary")
        if idle or np.array_equal(before, leaves[k]):
            continue
        broken = treedef.unflatten([*leaves[:k], before, *leaves[k + 1 :]])
        assert difference(reference, apply(broken)) > 1e-4, path


@pytest.mark.parametrize("name", CASES)
def test_builders_make_the_module_and_configs_rebuild_it(name):
    module, example, spec, config = CASES[name]
    net = build(json.loads(json.dumps(config)))
    again = build(json.loads(json.dumps(net.config)))
    assert again.config == net.config and again.spec == net.spec
    assert config.items() <= net.config.items()
    params = jax.eval_shape(net.init, jax.random.key(0))
    chex.assert_trees_all_equal_shapes_and_dtypes(params, jax.eval_shape(module.init, jax.random.key(0), example))
    spec.check(params)
    program, expected = (str(jax.make_jaxpr(apply)(params, example)) for apply in (net.apply, module.apply))
    assert program == expected
    assert (net.train is None) == ("batch_stats" not in params)


@pytest.mark.parametrize("name", CASES)
def test_inferred_spec_is_the_declared_one(name):
    module, example, declared, _ = CASES[name]
    params = jax.eval_shape(module.init, jax.random.key(0), example)
    inferred = infer_spec(module.apply, params, example)
    names = correspondence(inferred, declared)
    assert names is not None, inferred.describe()
    assert set(names.values()) >= set(declared.sizes) and not inferred.unknown


def test_all_kinds_are_here():
    shorthands = {"resnet20", "resnet50"}
    assert {case.config["kind"] for case in CASES.values()} == set(KINDS) - shorthands
