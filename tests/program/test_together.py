"""Equal equations as one: the values of the function as it was, whatever it draws and in whatever order."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.encoders import GraphEncoder
from dwalign.program import together
from tests.networks.declared import CASES, traced

KEY = jax.random.key(3)


def chained(key, x):
    """Draws that follow from draws, values that are read twice, in another order and by several, and a constant."""
    keys = [jax.random.fold_in(key, k) for k in (5, 1, 3)]
    drawn = [jax.random.normal(one, (2, 3)) for one in [*keys[::-1], keys[1]]]
    shuffled = [jnp.tanh(one) * x for one in (drawn[2], drawn[0])]
    joined = [a @ b.T for a, b in zip(drawn, [*shuffled, drawn[3], drawn[3]], strict=True)]
    return {"joined": joined, "keys": keys, "constant": 2.0, "given": x, "rest": jnp.arange(3) + np.arange(3)}


def wide(key, x):
    """Equations whose operands differ in type or shape alone."""
    sums = [
        jnp.ones(n, dtype) + jnp.asarray(k, dtype) for k, (n, dtype) in enumerate([(2, "f4"), (2, "i4"), (3, "i4")])
    ]
    return sums, [jnp.sum(x, axis) for axis in (0, 1)], jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x)


def of_many_shapes(key, x):
    """Draws of one distribution, of others, twice by one key, large and small ones, none, and complex ones."""
    keys = jax.random.split(key, 4)
    shapes = (2, 3), (3, 2), (2, 3), (6,), (), (500,), (0, 2)
    normal = [jax.random.normal(keys[k % 4], shape) for k, shape in enumerate(shapes)]
    short = [jax.random.normal(one, (3,), "bfloat16") for one in keys]
    twice = [jax.random.uniform(key, shape, minval=1.0, maxval=2.0) for shape in ((2, 2), (2, 2), (3,))]
    wider = [jax.random.uniform(key, (n,), minval=1.0, maxval=3.0) for n in (2, 3)]
    cut = [jax.random.truncated_normal(one, -2, 2, (n, 2)) for n, one in enumerate(keys)]
    traced = [jax.random.truncated_normal(one, -x[1, 1], 2, (n, 2)) for n, one in enumerate(keys)]
    others = [jax.random.normal(jax.random.key(k, impl="rbg"), (k,)) for k in range(3)]
    others += [jax.random.normal(one, (n,), "complex64") for n, one in enumerate(keys)]
    return normal, short, twice, wider, cut, traced, others


def under_two_settings(key, x):
    """The same draws twice, where a setting gives other numbers."""
    draws = lambda: [jax.random.bits(jax.random.fold_in(key, k), (5,)) for k in range(2)]
    with jax.threefry_partitionable(False):
        others = draws()
    return draws(), others


@pytest.mark.parametrize("f", [chained, wide, of_many_shapes, under_two_settings])
def test_values_are_those_of_the_function(f):
    x = np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)
    expected, found = jax.jit(f)(KEY, x), jax.jit(together(f))(KEY, x)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    data = lambda tree: jax.tree.map(lambda leaf: jax.random.key_data(leaf) if leaf.dtype == KEY.dtype else leaf, tree)
    chex.assert_trees_all_close(data(found), data(expected), rtol=1e-6)


def test_results_are_arrays():
    found = together(lambda x: (x, 2.0))(1.5)
    assert all(isinstance(leaf, jax.Array) for leaf in found) and [float(leaf) for leaf in found] == [1.5, 2.0]


def test_networks_of_a_batch_are_drawn_alike():
    f = lambda key: [jax.random.normal(one, (4,)) for one in jax.random.split(key, 3)]
    keys = jax.random.split(KEY, 2)
    chex.assert_trees_all_close(jax.jit(jax.vmap(together(f)))(keys), jax.jit(jax.vmap(f))(keys), rtol=1e-6)


def test_an_encoder_draws_large_and_small_arrays_of_each_distribution_once():
    case = CASES["vit_fused_scan"]
    encoder = GraphEncoder(case.spec, features=8, channels=8)

    def draws(init):
        equations = jax.make_jaxpr(init)(KEY, traced("vit_fused_scan").params).eqns
        names = [eqn.params.get("name") for eqn in equations]
        return [name for name in names if name in ("_normal", "_truncated_normal")]

    alone, shared = draws(encoder.init), draws(together(encoder.init))
    assert sorted(shared) == sorted(set(alone)) and len(shared) < len(alone) / 20


def test_double_precision_is_drawn_alike():
    f = lambda key: [jax.random.normal(one, (n,), "float64") for n, one in enumerate(jax.random.split(key, 3))]
    with jax.enable_x64(True):
        found, expected = jax.jit(together(f))(KEY), jax.jit(f)(KEY)
        assert {leaf.dtype for leaf in found} == {np.dtype("float64")}
        chex.assert_trees_all_close(found, expected, rtol=1e-12)
