"""The graph encoder: equivariant for any spec, finite for dead units, tells units apart."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.encoders import GraphEncoder
from dwalign.networks import mlp
from dwalign.symmetry import Axes, PermutationSpec, permute
from tests import drawn

HEADS = PermutationSpec(
    {"qk": Axes(None, "head", "unit"), "out": Axes("head", "unit", "next"), "conv": Axes(None, None, "next", None)},
    {"head": 3, "unit": 4, "next": 5},
    batch={"unit": ("head",)},
)
RECURRENT = PermutationSpec({"in": Axes(None, "h"), "loop": Axes("h", "h"), "out": Axes("h", None)}, {"h": 6})


SHAPES = {
    "mlp": (mlp(7, (6, 5, 4), 3).spec, None),
    "heads": (HEADS, {"conv": (3, 3, 5, 2), "out": (3, 4, 5), "qk": (8, 3, 4)}),
    "recurrent": (RECURRENT, {"in": (4, 6), "loop": (6, 6), "out": (6, 2)}),
}
CASES = [*((name, False) for name in SHAPES), ("mlp", True), ("heads", True)]
on_every_case = pytest.mark.parametrize(("name", "shared"), CASES)


@functools.cache
def make(name, shared):
    """spec, params, encoder, variables away from the start, and the compiled encoder."""
    spec, shapes = SHAPES[name]
    params = drawn.started(mlp(7, (6, 5, 4), 3).init) if shapes is None else drawn.named(**shapes)
    # what a second round reads is what a first one wrote
    encoder = GraphEncoder(spec, features=8, channels=8, rounds=2 if name == "recurrent" else 1, shared=shared)
    return spec, params, encoder, drawn.started(encoder.init, params, seed=1), jax.jit(encoder.apply)


def moved_features(spec, features, perms):
    """Features in the order of the permuted network."""
    tree = PermutationSpec(
        {g: Axes(*spec.batch.get(g, ()), g, None) for g in spec.sizes}, spec.sizes, batch=spec.batch, fixed=spec.fixed
    )
    return permute(tree, features, perms)


@on_every_case
def test_equivariance(name, shared):
    spec, params, _, variables, encode = make(name, shared)
    perms = drawn.perms(spec)
    features = jax.tree.map(np.asarray, encode(variables, params))
    expected = moved_features(spec, features, perms)
    chex.assert_trees_all_close(encode(variables, permute(spec, params, perms)), expected, atol=1e-4)
    assert features.keys() == spec.sizes.keys()
    for group, x in features.items():
        assert x.shape == (*spec.batch_shape(group), spec.sizes[group], 8)


def test_features_of_one_of_two_networks():
    _, params, encoder, variables, encode = make("heads", False)
    pair = jax.tree.map(lambda x: np.stack([x + 1, x]), params)
    both = jax.jit(jax.vmap(encoder.apply, in_axes=(None, 0)))(variables, pair)
    chex.assert_trees_all_close(jax.tree.map(lambda x: np.asarray(x)[1], both), encode(variables, params), atol=1e-4)


@pytest.mark.parametrize("name", ["heads", "recurrent"])
def test_dead_units_have_finite_gradients(name):
    _, params, encoder, variables, _ = make(name, False)
    dead = jax.tree.map(np.zeros_like, params)
    total = lambda v, p: sum(jnp.sum(x**2) for x in encoder.apply(v, p).values())
    gradients = jax.jit(jax.grad(total, (0, 1)))(variables, dead)
    assert len(jax.tree.leaves(gradients)) == len(jax.tree.leaves((variables, params)))
    chex.assert_tree_all_finite(gradients)


@on_every_case
def test_units_get_different_features(name, shared):
    _, params, _, variables, encode = make(name, shared)
    for x in encode(variables, params).values():
        flat = np.asarray(x).reshape(-1, x.shape[-1])
        distances = np.linalg.norm(flat[:, None, :] - flat[None, :, :], axis=-1) + np.eye(len(flat))
        assert distances.min() > 1e-3


@on_every_case
def test_features_do_not_depend_on_the_scale_of_an_array(name, shared):
    _, params, _, variables, encode = make(name, shared)
    factors = iter(np.linspace(2, 5, len(jax.tree.leaves(params)), dtype=np.float32))
    scaled = jax.tree.map(lambda leaf: leaf * next(factors), params)
    chex.assert_trees_all_close(encode(variables, scaled), encode(variables, params), atol=1e-3)
