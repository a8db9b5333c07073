"""The graph encoder: equivariant for any spec, finite for dead units, tells units apart."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.encoders import GraphEncoder
from dwalign.networks import mlp
from dwalign.symmetry import Axes, PermutationSpec, permute, random_perms

HEADS = PermutationSpec(
    {"qk": Axes(None, "head", "unit"), "out": Axes("head", "unit", "next"), "conv": Axes(None, None, "next", None)},
    {"head": 3, "unit": 4, "next": 5},
    batch={"unit": ("head",)},
)
RECURRENT = PermutationSpec({"in": Axes(None, "h"), "loop": Axes("h", "h"), "out": Axes("h", None)}, {"h": 6})


def random_params(spec, shapes, key):
    leaves = jax.tree.leaves(shapes, is_leaf=lambda s: isinstance(s, tuple))
    keys = jax.random.split(key, len(leaves))
    return spec.treedef.unflatten([jax.random.normal(k, s) for k, s in zip(keys, leaves, strict=True)])


CASES = {
    "mlp": (mlp(7, (6, 5, 4), 3).spec, None),
    "heads": (HEADS, {"conv": (3, 3, 5, 2), "out": (3, 4, 5), "qk": (8, 3, 4)}),
    "recurrent": (RECURRENT, {"in": (4, 6), "loop": (6, 6), "out": (6, 2)}),
}


@pytest.fixture(params=[*((name, False) for name in CASES), ("mlp", True), ("heads", True)], ids=str)
def case(request):
    name, shared = request.param
    spec, shapes = CASES[name]
    if shapes is None:
        params = mlp(7, (6, 5, 4), 3).init(jax.random.key(0))
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    else:
        params = random_params(spec, shapes, jax.random.key(0))
    encoder = GraphEncoder(spec, features=8, channels=8, rounds=2, shared=shared)
    return spec, params, encoder, encoder.init(jax.random.key(1), params)


def moved_features(spec, features, perms):
    """Features in the order of the permuted network."""
    tree = PermutationSpec(
        {g: Axes(*spec.batch.get(g, ()), g, None) for g in spec.sizes}, spec.sizes, batch=spec.batch, fixed=spec.fixed
    )
    return permute(tree, features, perms)


@pytest.mark.parametrize("how", ["eager", "jit", "vmap"])
def test_equivariance(case, how):
    spec, params, encoder, variables = case
    perms = random_perms(spec, jax.random.key(2))
    encode = lambda v: encoder.apply(variables, v)
    if how == "jit":
        encode = jax.jit(encode)
    if how == "vmap":
        one = encode
        encode = lambda v: jax.tree.map(lambda x: x[0], jax.vmap(one)(jax.tree.map(lambda x: x[None], v)))
    expected = moved_features(spec, encode(params), perms)
    chex.assert_trees_all_close(encode(permute(spec, params, perms)), expected, atol=1e-4)


def test_shapes(case):
    spec, params, encoder, variables = case
    for group, features in encoder.apply(variables, params).items():
        assert features.shape == (*spec.batch_shape(group), spec.sizes[group], 8)


def test_dead_units_have_finite_gradients(case):
    _, params, encoder, variables = case
    dead = jax.tree.map(jnp.zeros_like, params)
    total = lambda v, p: sum(jnp.sum(x**2) for x in encoder.apply(v, p).values())
    for grads in jax.grad(total, (0, 1))(variables, dead):
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


def test_units_get_different_features(case):
    _, params, encoder, variables = case
    for x in encoder.apply(variables, params).values():
        flat = x.reshape(-1, x.shape[-1])
        distances = jnp.linalg.norm(flat[:, None, :] - flat[None, :, :], axis=-1) + jnp.eye(len(flat))
        assert float(distances.min()) > 1e-3
