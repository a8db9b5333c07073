"""What is a weight, whatever it is stored as: roles, numbers, and arithmetic that ends in the types it began with."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.files.checksums import unsealed
from dwalign.matching import weight_matching
from dwalign.program import infer_spec
from dwalign.symmetry import (
    Axes,
    PermutationSpec,
    SpecError,
    distance,
    find_statistics,
    interpolate,
    inverse,
    leaf_roles,
    mean,
    numbers,
    permute,
    perturb,
    store,
    to_matrices,
    weight_blocks,
)
from tests import drawn

AXES = {
    "w": Axes(None, "h"),
    "b": Axes("h"),
    "out": Axes("h", None),
    "offset": Axes(None),
    "mask": Axes("h"),
    "keys": Axes("h"),
    "step": Axes(),
    "table": Axes(None),
    "norm": {"running_var": Axes("h"), "num_batches_tracked": Axes()},
}
SPEC = PermutationSpec(AXES, {"h": 7})
ROLES = {
    "['w']": "weight",
    "['b']": "weight",
    "['out']": "weight",
    "['offset']": "fixed",
    "['norm']['running_var']": "statistic",
}
TYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "int8", "uint8", "int4", "complex64"]


def network(dtype, seed=0):
    """NumPy arrays of one type, with all that lies beside weights."""
    rng, dtype = np.random.default_rng(seed), np.dtype(getattr(jnp, dtype))

    def draw(*shape):
        value = rng.uniform(1, 7, shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            value = value + 1j * rng.uniform(1, 7, shape)
        return value.astype(dtype)

    return {
        "w": draw(5, 7),
        "b": draw(7),
        "out": draw(7, 3),
        "offset": rng.standard_normal(3).astype(np.float32),
        "mask": rng.random(7) < 0.5,
        "keys": jax.random.split(jax.random.key(seed), 7),
        "step": np.int64(100_000 * (seed + 1)),
        "table": rng.integers(0, 255, 4).astype(np.uint8),
        "norm": {"running_var": 1e4 * rng.random(7).astype(np.float32), "num_batches_tracked": np.int64(seed)},
    }


def raw(leaf):
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.extended) else leaf)


def equal(one, two):
    pairs = list(zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True))
    return all(x.dtype == y.dtype and raw(x).tobytes() == raw(y).tobytes() for x, y in pairs)


def test_roles():
    roles = dict(zip(SPEC.paths, leaf_roles(SPEC, network("int8")), strict=True))
    assert roles == {path: ROLES.get(path, "carried") for path in SPEC.paths}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), network("bfloat16"))
    assert leaf_roles(SPEC, shapes) == leaf_roles(SPEC, network("int8"))
    assert {block.path for block in weight_blocks(SPEC, network("int8"))} == {"['w']", "['b']", "['out']"}


@pytest.mark.parametrize("dtype", TYPES)
def test_numbers_are_stored_as_they_were(dtype):
    for leaf in network(dtype)["w"], jnp.asarray(network(dtype)["w"]):
        xp = np if isinstance(leaf, np.ndarray) else jnp
        values = numbers(leaf, xp)
        assert values.dtype == (np.float64 if leaf.dtype == np.float64 else np.float32) and values.shape[:2] == (5, 7)
        assert equal(store(values, leaf, xp), leaf)
    ends = store(np.float32([-1e9, 1e9, 2.6]), np.int8(0), np)
    assert ends.tolist() == [-128, 127, 3]


@pytest.mark.parametrize("dtype", TYPES)
def test_interpolation_keeps_types_and_reaches_both_ends(dtype):
    a, b = network(dtype), network(dtype, 1)
    mixed = {"w", "b", "out", "offset", "norm"}
    for weight in (0.5, np.float64(0.5), jnp.float32(0.5)):
        middle = interpolate(SPEC, a, b, weight)
        exact = (np.asarray(a["w"], complex) + np.asarray(b["w"], complex)) / 2
        coarse = {"float8_e4m3fn": 0.3, "bfloat16": 0.03, "float16": 0.004}.get(dtype, 1e-6)
        coarse = 0.51 if "int" in dtype else coarse
        assert np.abs(np.asarray(middle["w"], complex) - exact).max() <= coarse
        assert jax.tree.map(lambda leaf: leaf.dtype, middle) == jax.tree.map(lambda leaf: leaf.dtype, a)
    assert equal(interpolate(SPEC, a, b, 0.0), a)
    ends = {name: leaf for name, leaf in b.items() if name in mixed} | {n: a[n] for n in set(a) - mixed}
    ends["norm"] = ends["norm"] | {"num_batches_tracked": a["norm"]["num_batches_tracked"]}
    assert equal(interpolate(SPEC, a, b, 1.0), ends)


def test_interpolation_under_transformations():
    a, b = network("bfloat16", 0), network("bfloat16", 1)
    points = np.asarray(jax.jit(jax.vmap(lambda w: interpolate(SPEC, a, b, w)["w"]))(np.float32([0.0, 1.0])))
    assert equal(list(points), [a["w"], b["w"]])
    slope = jax.jit(jax.grad(lambda w: interpolate(SPEC, a, b, w)["w"].astype(jnp.float32).sum()))(0.5)
    np.testing.assert_allclose(slope, (b["w"].astype(np.float32) - a["w"].astype(np.float32)).sum(), rtol=1e-2)
    with pytest.raises(ValueError, match=r"weight must be a scalar, found shape \(3,\)"):
        interpolate(SPEC, a, b, np.ones(3))


def test_sums_of_narrow_numbers_are_wide():
    """NumPy's own stop at 256 ones of bfloat16; norms of float16 are infinite above 256, on devices too."""
    spec, ones = PermutationSpec({"w": Axes("h")}, {"h": 1000}), {"w": np.ones(1000, jnp.bfloat16)}
    np.testing.assert_allclose(distance(spec, ones, {"w": np.zeros_like(ones["w"])}), np.sqrt(1000), rtol=1e-6)
    assert equal(mean(spec, [ones] * 600), ones)
    for xp in (np, jnp):
        large = {"w": xp.full(1000, 20, xp.float16)}
        np.testing.assert_allclose(distance(spec, large, {"w": 0 * large["w"]}), 20 * np.sqrt(1000), rtol=1e-6)


def test_masks_of_minus_infinity_stay():
    spec, mask = PermutationSpec({"m": Axes(None)}, {}), {"m": np.float32([0, -np.inf])}
    for weight in (0.0, 0.5, 1.0):
        assert equal(interpolate(spec, mask, mask, weight), mask)
    assert distance(spec, mask, mask) == 0


@pytest.mark.parametrize("dtype", TYPES)
def test_permutations_keep_bits_and_distance_sees_the_weights_alone(dtype):
    a, b = network(dtype), network(dtype, 1)
    perms = drawn.perms(SPEC)
    moved = permute(SPEC, a, perms)
    assert not equal(a, moved) and equal(permute(SPEC, moved, inverse(SPEC, perms)), a)
    beside = a | {name: b[name] for name in ("mask", "keys", "step", "table", "norm")}
    assert distance(SPEC, a, beside) == 0
    names = ("w", "b", "out", "offset")
    exact = sum(np.sum(np.abs(np.asarray(a[n], complex) - np.asarray(b[n], complex)) ** 2) for n in names)
    np.testing.assert_allclose(distance(SPEC, a, b), np.sqrt(exact), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float8_e4m3fn", "int8", "complex64"])
def test_matching_sees_the_weights_alone(dtype):
    a, other = network(dtype), network(dtype, 1)
    perms = drawn.perms(SPEC)
    b = permute(SPEC, a, perms)
    # far from a in all that is no weight
    b = b | {name: other[name] for name in ("mask", "keys", "step", "table", "norm")}
    found = permute(SPEC, b, weight_matching(SPEC, a, b, key=jax.random.key(0)).perms)
    assert equal({n: found[n] for n in ("w", "b", "out", "offset")}, {n: a[n] for n in ("w", "b", "out", "offset")})


def test_soft_permutations_average_numbers_and_move_the_rest():
    a, perms = network("int8"), drawn.perms(SPEC)
    hard, soft = permute(SPEC, a, perms), permute(SPEC, a, to_matrices(perms))
    assert equal({n: soft[n] for n in ("mask", "keys", "step")}, {n: hard[n] for n in ("mask", "keys", "step")})
    assert soft["w"].dtype == jnp.float32 and (soft["w"] == hard["w"].astype(np.float32)).all()


def test_noise_keeps_types_signs_and_what_is_no_number():
    a = network("bfloat16")
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles in a tenth of the time
    noisy = perturb(SPEC, a, key, 3.0)
    rest = ("mask", "keys", "table", "step")
    assert equal({n: noisy[n] for n in rest}, {n: a[n] for n in rest})
    assert noisy["w"].dtype == jnp.bfloat16 and (noisy["norm"]["running_var"] > 0).all()
    assert not np.array_equal(noisy["w"], a["w"]) and equal(perturb(SPEC, a, key, 0.0)["w"], a["w"])


def test_two_networks_of_different_kinds_are_refused_and_of_different_widths_are_not():
    a, b = network("bfloat16"), network("float32", 1)
    SPEC.check_pair(a, b)
    assert interpolate(SPEC, a, b)["w"].dtype == jnp.bfloat16 and interpolate(SPEC, b, a)["w"].dtype == jnp.float32
    for wrong, kind in (("int8", "integer"), ("complex64", "complex")):
        with pytest.raises(SpecError, match=rf"a\['b'\] is float \(bfloat16\) and b\['b'\] is {kind} \({wrong}\)"):
            SPEC.check_pair(a, network(wrong))


# --- statistics -------------------------------------------------------------------------------------------------------


def test_conventions():
    tree = {
        "params": {"scale": 1, "mean": {"kernel": 2}, "std": 3},
        "batch_stats": {"mean": 4, "var": 5},
        "bn.running_mean": 6,
        "bn.weight": 7,
        "keras": [{"moving_variance": 8, "gamma": 9}],
        "batch_norm/~/mean_ema": {"average": 10, "hidden": 11},
        "pure": {"mean": 12, "var": 13, "bias": 14},
        "lonely": {"mean": 15},
    }
    paths = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
    assert {paths[path] for path in find_statistics(tree)} == {4, 5, 6, 8, 10, 11, 12, 13}
    assert {paths[path] for path in find_statistics(tree, lambda path: "bn" in path)} == {6, 7}
    with pytest.raises(ValueError, match="predicate on paths or a tree of bools"):
        find_statistics(tree, {"params": True})


def test_batch_statistics_of_nnx_are_known_by_their_type():
    from flax import nnx

    state = nnx.state(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    assert [path for path in find_statistics(state) if "scale" in path or "bias" in path] == []
    assert len(find_statistics(state)) == 2


def test_inferred_statistics_and_given_ones():
    params = drawn.named(w=(4, 6), running_mean=(6,), v=(6, 3))
    apply = lambda p, x: jax.nn.relu(x @ p["w"] - p["running_mean"][None]) @ p["v"]
    x = drawn.normal(2, 4)
    assert infer_spec(apply, params, x).statistics == {"['running_mean']"}
    assert infer_spec(apply, params, x, statistics=lambda path: False).statistics == frozenset()
    flags = {"w": False, "running_mean": False, "v": True}
    spec = infer_spec(apply, params, x, statistics=flags)
    assert spec.statistics == {"['v']"} and "['v']             h0, _  statistic" in spec.describe()


def test_statistics_are_a_part_of_a_spec():
    axes, sizes = {"w": Axes("h"), "m": Axes("h")}, {"h": 3}
    plain, marked = PermutationSpec(axes, sizes), PermutationSpec(axes, sizes, statistics=["['m']"])
    assert plain != marked and marked == plain.with_statistics({"['m']"})
    for spec in (plain, marked):
        assert PermutationSpec.from_json(spec.to_json()) == spec
    # of the time before statistics were told apart
    old = unsealed(json.loads(marked.to_json())) | {"statistics": None}
    assert PermutationSpec.from_json(json.dumps(old)) == plain
    with pytest.raises(SpecError, match=r"statistics must be paths of arrays, found \['m'\]"):
        PermutationSpec(axes, sizes, statistics=["m"])
    with pytest.raises(SpecError, match="statistics in the JSON text must be a list of paths"):
        PermutationSpec.from_json(json.dumps(old | {"statistics": 3}))
