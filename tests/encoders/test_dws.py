"""The encoder of the paper: all equivariant maps and no others, finite for dead units, exact untrained."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dwalign.assignment import hungarian
from dwalign.encoders.dws import DWSEncoder, EquivariantAffine, basis
from dwalign.networks import mlp
from dwalign.program import together
from dwalign.symmetry import Axes, PermutationSpec, permute
from tests import drawn

SPECS = {
    "mlp": (mlp(7, (6, 5, 4), 3).spec, None),
    "heads": (
        PermutationSpec(
            {
                "conv": Axes(None, None, "next", None),
                "out": Axes("head", "unit", "next"),
                "qk": Axes(None, "head", "unit"),
            },
            {"head": 4, "unit": 4, "next": 5},
            batch={"unit": ("head",)},
        ),
        {"conv": (3, 3, 5, 2), "out": (4, 4, 5), "qk": (8, 4, 4)},
    ),
    "recurrent": (
        PermutationSpec({"in": Axes(None, "h"), "loop": Axes("h", "h"), "out": Axes("h", None)}, {"h": 5}),
        {"in": (4, 5), "loop": (5, 5), "out": (5, 2)},
    ),
    "scanned": (
        PermutationSpec(
            {"bias": Axes("layer", "u"), "kernel": Axes("layer", "u", "v"), "out": Axes("v", None)},
            {"u": 4, "v": 3},
            batch={"u": ("layer",)},
            fixed={"layer": 2},
        ),
        {"bias": (2, 4), "kernel": (2, 4, 3), "out": (3, 2)},
    ),
}


# this generator compiles in a tenth of the default one's time
CHEAP = jax.random.key(1, impl="unsafe_rbg")


def random_params(name):
    shapes = SPECS[name][1]
    return drawn.started(mlp(7, (6, 5, 4), 3).init) if shapes is None else drawn.named(**shapes)


def random_variables(encoder, params):
    """Away from the start, where biases are zero and scales one."""
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), params)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)


def feature_spec(spec):
    axes = {g: Axes(*spec.batch.get(g, ()), g, None) for g in spec.sizes}
    return PermutationSpec(axes, spec.sizes, batch=spec.batch, fixed=spec.fixed)


def as_one_of_two(function):
    stacked = jax.jit(jax.vmap(function))
    return lambda v: jax.tree.map(lambda x: np.asarray(x)[1], stacked(jax.tree.map(lambda x: np.stack([x + 1, x]), v)))


def check_equivariance(name, wrap, **options):
    spec, params = SPECS[name][0], random_params(name)
    encoder = DWSEncoder(spec, features=6, channels=4, depth=1, fixed_rank=5, **options)
    variables = random_variables(encoder, params)
    perms = drawn.perms(spec)
    encode = wrap(lambda v: encoder.apply(variables, v))
    features = jax.tree.map(np.asarray, encode(params))
    assert features.keys() == spec.sizes.keys()
    for g, x in features.items():
        chex.assert_shape(x, (*spec.batch_shape(g), spec.sizes[g], 6))
        # otherwise the law would be empty
        assert np.std(x, -2).min() > 1e-3
    expected = permute(feature_spec(spec), features, perms)
    chex.assert_trees_all_close(encode(permute(spec, params, perms)), expected, atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("name", SPECS)
def test_equivariance(name, pooling):
    check_equivariance(name, jax.jit, pooling=pooling, per_position=pooling == "max")


def test_equivariance_vmapped():
    check_equivariance("recurrent", as_one_of_two)


def orbits(spec, source, target):
    """The number of orbits of the group on pairs of positions: the dimension of the space of equivariant maps."""
    axes = [tuple(f"{f}" for f in side) for side in (source, target)]
    shapes = [tuple(spec.size(f) for f in side) for side in axes]
    both = PermutationSpec(
        {
            "source": Axes(*axes[0]),
            "target": Axes(*axes[1]),
            **{g: Axes(*spec.batch.get(g, ()), g) for g in spec.sizes},
        },
        spec.sizes,
        batch=spec.batch,
    )
    count = [int(np.prod(shape)) for shape in shapes]
    tree = {g: np.zeros((*spec.batch_shape(g), n)) for g, n in spec.sizes.items()}
    tree |= {k: np.arange(c).reshape(s) for k, c, s in zip(("source", "target"), count, shapes, strict=True)}
    pairs = np.arange(count[0] * count[1])
    edges = []
    for seed in range(12):
        moved = permute(both, tree, drawn.perms(both, seed))
        s, t = (moved[k].reshape(-1) for k in ("source", "target"))
        edges.append((pairs, (s[:, None] * count[1] + t[None, :]).reshape(-1)))
    rows, cols = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(rows)), (rows, cols)), (len(pairs), len(pairs)))
    return connected_components(graph, directed=False)[0]


def test_two_maps_for_every_shared_group():
    spec = mlp(6, (5, 4), 3).spec
    spaces = [("h0",), ("h0", "h1"), ("h1",), ()]
    for source, target in itertools.product(spaces, spaces):
        shared = len(set(source) & set(target))
        assert len(basis(spec, source, target)) == 2**shared == orbits(spec, source, target)


@pytest.mark.parametrize(
    "name, spaces",
    [
        ("recurrent", [("h",), ("h", "h")]),
        ("heads", [("head", "unit", "next"), ("head", "unit"), ("next",), ("head",)]),
    ],
)
def test_as_many_maps_as_the_group_has_orbits(name, spaces):
    spec = SPECS[name][0]
    for source, target in itertools.product(spaces, spaces):
        assert len(basis(spec, source, target)) == orbits(spec, source, target)


@pytest.mark.parametrize("source, target", [(("h", "h"), ("h", "h")), (("h",), ("h", "h")), (("h", "h"), ("h",))])
def test_the_maps_are_independent(source, target):
    spec = SPECS["recurrent"][0]
    layer = EquivariantAffine(spec, (source,), (target,), (1,))
    size = 5 ** len(source)
    inputs = np.eye(size, dtype=np.float32).reshape(size, *(5,) * len(source), 1)
    variables = drawn.started(layer.init, [inputs[0]])

    def matrix(variables):
        return jax.vmap(lambda x: layer.apply(variables, [x])[0].reshape(-1))(inputs).reshape(-1)

    kernels = {"params": {k: v for k, v in variables["params"].items() if k.startswith("kernel")}}
    biases = {k: v for k, v in variables["params"].items() if k.startswith("bias")}
    by_kernel = jax.jit(jax.jacobian(lambda k: matrix({"params": {**k["params"], **biases}})))(kernels)
    columns = np.concatenate([np.asarray(x).reshape(x.shape[0], -1) for x in jax.tree.leaves(by_kernel)], -1)
    assert np.linalg.matrix_rank(columns, tol=1e-4) == len(basis(spec, source, target)) == columns.shape[1]


def test_dead_units_have_finite_gradients():
    net = mlp(7, (6, 5), 3)
    params = drawn.started(net.init)
    dead = jax.tree.map(np.copy, params)
    dead["params"]["dense_1"]["kernel"][:, :2] = 0
    encoder = DWSEncoder(net.spec, features=6, channels=4, depth=1)
    variables = random_variables(encoder, params)
    total = lambda v, p: sum(jnp.sum(jnp.tanh(x)) for x in encoder.apply(v, p).values())
    slopes = jax.jit(jax.value_and_grad(total, (0, 1)))
    for case in (dead, jax.tree.map(np.zeros_like, params)):
        value, grads = slopes(variables, case)
        chex.assert_tree_all_finite((value, grads))


def test_features_keep_their_size_through_depth():
    net = mlp(20, (16, 16), 5)
    params = drawn.started(net.init)
    encoder = DWSEncoder(net.spec, features=32, channels=8, depth=5)
    features = jax.jit(lambda key: encoder.apply(together(encoder.init)(key, params), params))(CHEAP)
    assert features.keys() == net.spec.sizes.keys()
    for x in features.values():
        assert 0.3 < np.sqrt(np.mean(np.square(x))) < 3


def test_untrained_features_recover_a_planted_permutation():
    net = mlp(64, (32, 32, 32), 10)
    encoder = DWSEncoder(net.spec, features=32, channels=8, depth=2)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    params = [drawn.weights(shapes, seed) for seed in range(100)]
    perms = [drawn.perms(net.spec, seed) for seed in range(100)]
    pairs = [(own, permute(net.spec, own, g)) for own, g in zip(params, perms, strict=True)]

    def encode(key, own, moved):
        variables = together(encoder.init)(key, own)
        pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), moved, own)
        return jax.vmap(encoder.apply, in_axes=(None, 0))(variables, pair)

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *pairs)
    features = jax.tree.map(np.asarray, jax.jit(jax.vmap(encode))(jax.random.split(CHEAP, 100), *stacked))
    planted = jax.tree.map(lambda *leaves: np.stack(leaves), *perms)
    for group, x in features.items():
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        found = hungarian(x[:, 0] @ np.swapaxes(x[:, 1], -1, -2))
        assert np.array_equal(found, planted[group]), group


def test_size_on_the_papers_mlp_and_long_axes():
    net = mlp(784, (128, 128, 128), 10)
    encoder = DWSEncoder(net.spec)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), jax.eval_shape(net.init, jax.random.key(0)))
    assert sum(x.size for x in jax.tree.leaves(shapes)) < 31_900_000 / 50
    projections = {k: x.shape for k, x in shapes["params"].items() if k.startswith("project")}
    assert list(projections.values()) == [(784, 64)]


def test_unknown_pooling():
    net = mlp(4, (3,), 2)
    with pytest.raises(ValueError, match="pooling must be one of"):
        drawn.started(DWSEncoder(net.spec, pooling="median").init, drawn.started(net.init))
