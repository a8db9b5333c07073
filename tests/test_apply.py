"""The door for pipelines: results, transformations, and errors that say what is wrong."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign import apply
from dwalign.networks import mlp
from dwalign.symmetry import SpecError

NET = mlp(6, (7, 5), 3)
DATA = (jax.random.normal(jax.random.key(9), (40, 6)), jnp.arange(40) % 3)


@pytest.fixture(scope="module")
def pair():
    a = NET.init(jax.random.key(0))
    a = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), a)
    return a, apply.permute(NET.spec, a, apply.random_perms(NET.spec, jax.random.key(1)))


@pytest.mark.parametrize(
    "method, options",
    [
        ("weight_matching", {}),
        ("activation_matching", {"capture": NET.capture, "batch": DATA, "correlation": True}),
        ("straight_through", {"apply": NET.apply, "batch": DATA, "iterations": 3}),
    ],
)
def test_align_recovers_a_copy(pair, method, options):
    found = apply.align(NET.spec, *pair, method=method, **options)
    assert found.method == method and found.seconds > 0
    assert float(apply.distance(NET.spec, *pair, perms=found.perms)) == 0.0
    assert float(apply.distance(NET.spec, *pair)) > 0.1


def test_methods_start_from_one_another(pair):
    refine = {"apply": NET.apply, "batch": DATA, "steps": 2}
    found = apply.align(NET.spec, *pair, method="weight_matching+refine", refine=refine)
    assert found.method == "weight_matching+refine" and found.history.shape == (2,)


def test_merge_of_a_network_with_its_copy_is_the_network(pair):
    a, b = pair
    chex.assert_trees_all_close(apply.merge(NET.spec, a, b), a, atol=1e-6)
    chex.assert_trees_all_equal(apply.interpolate(NET.spec, a, b, 0.0), a)
    chex.assert_trees_all_equal(apply.interpolate(NET.spec, a, b, 1.0), b)


def test_pure_functions_jit_vmap_and_differentiate(pair):
    a, b = pair
    perms = apply.random_perms(NET.spec, jax.random.key(3))
    stack = lambda tree: jax.tree.map(lambda x: jnp.stack([x, 2 * x if x.dtype == jnp.float32 else x]), tree)
    one = lambda a, b, p: apply.interpolate(NET.spec, a, b, 0.3, perms=p)
    many = jax.jit(jax.vmap(one))(stack(a), stack(b), stack(perms))
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], many), one(a, b, perms), atol=1e-6)
    slope = jax.grad(lambda w: apply.distance(NET.spec, a, apply.interpolate(NET.spec, a, b, w)))(0.5)
    chex.assert_trees_all_close(slope, apply.distance(NET.spec, a, b), rtol=1e-4)


def test_errors(pair):
    a, b = pair
    with pytest.raises(ValueError, match="method must be one of"):
        apply.align(NET.spec, a, b, method="magic")
    bad = jax.tree.map(lambda x: x, a)
    bad["params"]["dense_1"]["kernel"] = bad["params"]["dense_1"]["kernel"].at[0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match=r"b\['params'\]\['dense_1'\]\['kernel'\] holds 1 NaN"):
        apply.align(NET.spec, a, bad)
    with pytest.raises(SpecError, match=r"b\['params'\]\['dense_0'\]\['bias'\].*same widths"):
        apply.align(NET.spec, a, mlp(6, (8, 5), 3).init(jax.random.key(0)))
    with pytest.raises(SpecError, match="dense_3"):
        apply.align(NET.spec, a, mlp(6, (7, 5, 5), 3).init(jax.random.key(0)))
