"""Weight matching of arrays that are not traced: nothing is compiled, and the mathematics is that of the traced way."""

import functools
import tracemalloc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.matching import match_scores, scores, search, weight_matching
from dwalign.matching.weight import objective
from dwalign.networks import mlp, transformer
from dwalign.symmetry import (
    Alignment,
    Axes,
    PermutationSpec,
    compose,
    distance,
    identity,
    inner_product,
    interpolate,
    inverse,
    permute,
    random_perms,
    to_matrices,
    transpose,
    weight_blocks,
)
from tests.compiled import all_compilations

TYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int8", "complex64"]


def on_host(tree):
    return jax.tree.map(np.asarray, tree)


def random(spec, seed):
    rng = np.random.default_rng(seed)
    size = lambda dim: 9 if dim == ((None,),) else sum(int(np.prod([spec.size(f) for f in part])) for part in dim)
    return jax.tree.map(lambda axes: rng.standard_normal([size(dim) for dim in axes.dims]).astype("float32"), spec.axes)


def typed(tree, dtype):
    scale = 40 if dtype == "int8" else 1
    change = lambda leaf: (scale * leaf).astype(jnp.dtype(dtype))
    return jax.tree.map(lambda x: x + np.complex64(1j) * x[..., ::-1] if dtype == "complex64" else change(x), tree)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_compiles_nothing(spec, kind):
    a, b = (jax.tree.map(kind, random(spec, seed)) for seed in (0, 1))
    start, key = Alignment({g: kind(p) for g, p in identity(spec).items()}), jax.random.key(3)
    with all_compilations() as compiled:
        found = weight_matching(spec, a, b, key=key, start=start, restarts=2)
        weight_matching(spec, a, b, key=None)
    assert not compiled and all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    for group, n in spec.sizes.items():
        shape = (*spec.batch_shape(group), n)
        chex.assert_shape((found.perms[group], found.scores[group]), (shape, (*shape, n)))
        assert found.perms[group].dtype == np.int32
    assert found.history.shape == (100,)


def test_a_fused_transformer_compiles_nothing():
    net = transformer(vocabulary=11, length=5, dim=8, depth=1, heads=2, width=12, fused=True, tied=True)
    a, b = (jax.jit(net.init)(jax.random.key(seed)) for seed in (0, 1))
    with all_compilations() as compiled:
        found = weight_matching(net.spec, a, b, key=None)
    assert not compiled and found.history[-1] >= found.history[0]


@pytest.mark.parametrize("dtype", TYPES)
def test_ends_at_the_planted_permutation_in_every_type(dtype):
    spec = mlp(9, (7, 6), 9).spec
    a, hidden = typed(random(spec, 0), dtype), random_perms(spec, np.random.default_rng(1))
    for restarts in (1, 3):
        found = weight_matching(spec, a, permute(spec, a, hidden), key=None, restarts=restarts)
        chex.assert_trees_all_equal(found.perms, inverse(spec, hidden))


# types of few bits go one way
@pytest.mark.parametrize(
    "dtype, restarts", [("float32", 3), ("bfloat16", 1), ("float8_e4m3fn", 1), ("int8", 1), ("complex64", 3)]
)
def test_both_ways_end_at_the_planted_permutation(dtype, restarts):
    spec = mlp(9, (7, 6), 9).spec
    a = typed(random(spec, 0), dtype)
    hidden = random_perms(spec, np.random.default_rng(1))
    b = permute(spec, a, hidden)
    here = weight_matching(spec, a, b, key=None, restarts=restarts)
    traced = jax.jit(lambda a, b: weight_matching(spec, a, b, key=None, restarts=restarts))(a, b)
    chex.assert_trees_all_equal(here.perms, inverse(spec, hidden))
    chex.assert_trees_all_equal(traced.perms, here.perms)
    chex.assert_trees_all_close((traced.scores, traced.history[-1]), (here.scores, here.history[-1]), rtol=1e-4)


def test_both_ways_take_the_same_steps_where_there_is_one_group(specs):
    for name in ("stack", "recurrent"):
        spec = specs[name]
        a, b = random(spec, 0), random(spec, 1)
        here = weight_matching(spec, a, b, key=None)
        traced = jax.jit(lambda a, b, spec=spec: weight_matching(spec, a, b, key=None))(a, b)
        chex.assert_trees_all_equal(traced.perms, here.perms)
        chex.assert_trees_all_close((traced.scores, traced.history), (here.scores, here.history), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("small", [search.SMALL, 0])
def test_history_is_the_objective_after_each_sweep_and_scores_are_those_of_the_result(spec, small, monkeypatch):
    # scores that are not small follow the units that have moved
    monkeypatch.setattr(search, "SMALL", small)
    a, b = random(spec, 0), random(spec, 1)
    whole = weight_matching(spec, a, b, key=None)
    for sweeps in (1, 2, 3, 100):
        found = weight_matching(spec, a, b, key=None, sweeps=sweeps)
        np.testing.assert_allclose(found.history, whole.history[:sweeps], rtol=1e-6)
        np.testing.assert_allclose(found.history[-1], objective(spec, a, b, found.perms), rtol=1e-4)
        chex.assert_trees_all_close(found.scores, match_scores(spec, a, b, found.perms), rtol=1e-5, atol=1e-5)
    assert np.all(np.diff(whole.history) >= 0) and whole.history[-1] > objective(spec, a, b, identity(spec))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "complex64"])
def test_scores_that_follow_units_are_those_computed_anew(dtype):
    axes = {"in": Axes(None, "h0"), "three": Axes("h0", None, "h1", "h2"), "joined": Axes(("h0", "h2"), "h1")}
    spec = PermutationSpec(axes, {"h0": 5, "h1": 6, "h2": 4})
    a, b = (typed(random(spec, seed), dtype) for seed in range(2))
    pair, before = scores.read_pair(spec, a, b, xp=np), random_perms(spec, np.random.default_rng(2))
    for other in spec.sizes:
        order = before[other].copy()
        order[[0, 2]] = order[[2, 0]]
        after = before | {other: order}
        for group in spec.sizes.keys() - {other}:
            anew = lambda perms, group=group: scores.place_products(spec, pair, perms, group)
            found = scores.moved_products(spec, pair, after, group, anew(before), other, before[other])
            np.testing.assert_allclose(found, anew(after), rtol=1e-5, atol=1e-5 * abs(found).max())
            assert abs(anew(after) - anew(before)).max() > 0.1


def test_only_what_has_moved_is_multiplied(monkeypatch):
    sizes = {"h0": 200, "h1": 200}
    spec = PermutationSpec({"in": Axes(None, "h0"), "between": Axes("h0", "h1"), "out": Axes("h1", None)}, sizes)
    a, b = random(spec, 0), random(spec, 1)
    widths, products = [], scores._products
    seen = lambda spec, x, *args: widths.append(x.array.shape) or products(spec, x, *args)
    monkeypatch.setattr(scores, "_products", seen)
    found = weight_matching(spec, a, b, key=None)
    chex.assert_trees_all_close(found.scores, match_scores(spec, a, b, found.perms), rtol=1e-4, atol=1e-4)
    assert any(min(shape) < 100 for shape in widths if 9 not in shape)


def test_no_group_of_the_result_can_be_assigned_better(spec):
    a, b = random(spec, 0), random(spec, 1)
    found = weight_matching(spec, a, b, key=None)
    again = weight_matching(spec, a, b, key=jax.random.key(5), start=found)
    np.testing.assert_allclose(again.history, found.history[-1], rtol=1e-5)


def test_a_key_draws_the_orders_and_the_starts():
    spec = mlp(3, (16, 16, 16, 16), 2).spec
    a, b = random(spec, 0), random(spec, 1)
    run = lambda key, **options: weight_matching(spec, a, b, key=key, **options)
    keys = [jax.random.key(k) for k in range(6)]
    for key in (None, *keys, jax.random.PRNGKey(7)):
        chex.assert_trees_all_equal(run(key, restarts=2), run(key, restarts=2))
    found = [float(run(key).history[-1]) for key in keys]
    assert len(set(found)) > 1
    assert all(run(key, restarts=5).history[-1] >= one for key, one in zip(keys, found, strict=True))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_scores_are_the_same_in_numpy_and_in_jax(spec, kind):
    a, b = random(spec, 0), random(spec, 1)
    perms = random_perms(spec, np.random.default_rng(2))
    if kind == "soft":
        perms = {g: 0.6 * p + 0.4 / spec.sizes[g] for g, p in to_matrices(perms).items()}
    score = functools.partial(match_scores, spec)
    here, there = (solve(a, b, perms) for solve in (score, jax.jit(score)))
    assert all(isinstance(matrix, np.ndarray) for matrix in here.values())
    chex.assert_trees_all_close(here, there, rtol=1e-4, atol=1e-4)


def test_the_action_and_the_arithmetic_keep_numpy_in_numpy(spec):
    a, b = random(spec, 0), random(spec, 1)

    def everything(a, b, g, h):
        moved, soft = permute(spec, b, g), {name: 0.5 * q + 0.1 for name, q in to_matrices(g).items()}
        blocks = weight_blocks(spec, a), weight_blocks(spec, moved)
        return {
            "moved": (moved, permute(spec, b, soft)),
            "group": (compose(spec, g, h), inverse(spec, g), identity(spec), transpose(spec, to_matrices(g))),
            "numbers": (distance(spec, a, b), interpolate(spec, a, b, 0.3), inner_product(*blocks)),
        }

    with all_compilations() as compiled:
        g, h = (random_perms(spec, np.random.default_rng(seed)) for seed in (2, 3))
        here = everything(a, b, g, h)
    assert not compiled and all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(here))
    there = jax.jit(everything)(a, b, g, h)
    chex.assert_trees_all_close(here, there, rtol=1e-4, atol=1e-4)


def test_memory_is_that_of_a_few_pieces(monkeypatch):
    monkeypatch.setattr(scores, "PIECE", 2**14)
    spec = PermutationSpec(
        {"embedding": Axes(None, "d"), "layers": [Axes("d", f"h{k}") for k in range(8)]},
        {"d": 64, **{f"h{k}": 64 for k in range(8)}},
    )
    draw = lambda rng: {
        "embedding": rng.standard_normal((20_000, 64), np.float32).astype(jnp.bfloat16),
        "layers": [rng.standard_normal((64, 64), np.float32).astype(jnp.bfloat16) for _ in range(8)],
    }
    a, b = draw(np.random.default_rng(0)), draw(np.random.default_rng(1))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(a))
    tracemalloc.start()
    try:
        found = weight_matching(spec, a, b, key=None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - sum(leaf.nbytes for leaf in jax.tree.leaves(found)) < 0.5 * size


def equations(jaxpr):
    inner = (value for eqn in jaxpr.eqns for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=callable))
    nested = (getattr(value, "jaxpr", value) for value in inner if hasattr(value, "eqns") or hasattr(value, "jaxpr"))
    return len(jaxpr.eqns) + sum(map(equations, nested))


@functools.cache
def fused(depth):
    """Of so many blocks: the spec, and shapes of the parameters and of an element."""
    net = transformer(vocabulary=11, length=4, dim=8, depth=depth, heads=2, width=8, fused=True)
    shapes = lambda tree: jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
    return net.spec, shapes(net.params), shapes(identity(net.spec))


@pytest.mark.parametrize("which", ["weight_matching", "match_scores", "permute"])
def test_tracing_is_linear_in_depth_where_arrays_are_concatenated(which):
    def count(depth):
        spec, a, perms = fused(depth)
        run = {
            "weight_matching": lambda a, b, _: weight_matching(spec, a, b, key=jax.random.key(0)),
            "match_scores": lambda a, b, p: match_scores(spec, a, b, p),
            "permute": lambda a, _, p: permute(spec, a, p),
        }[which]
        return equations(jax.make_jaxpr(run)(a, a, perms).jaxpr)

    two, four, eight = map(count, (2, 4, 8))
    assert two > 100
    assert abs((eight - four) - 2 * (four - two)) <= 0.02 * eight


def test_matches_what_plain_numpy_and_scipy_find():
    from scipy.optimize import linear_sum_assignment

    spec = PermutationSpec({"in": Axes(None, "h"), "out": Axes("h", None)}, {"h": 12})
    a, b = random(spec, 0), random(spec, 1)
    plain = linear_sum_assignment(a["in"].T @ b["in"] + a["out"] @ b["out"].T, maximize=True)[1]
    assert np.array_equal(weight_matching(spec, a, b, key=None).perms["h"], plain)


def test_gradients_and_vmap_of_half_of_the_arguments_go_the_traced_way(specs):
    spec = specs["heads"]
    a, b = random(spec, 0), random(spec, 1)
    many = jax.tree.map(lambda leaf: np.stack([leaf, leaf[..., ::-1]]), b)
    found = jax.vmap(functools.partial(weight_matching, spec, key=None), in_axes=(None, 0))(a, many)
    alone = jax.jit(functools.partial(weight_matching, spec, key=None))(a, b)
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], found.perms), alone.perms)
