"""Laws of the group action, each eagerly, under jit and under vmap, on every kind of spec."""

import random

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.networks import mlp
from dwalign.symmetry import (
    Alignment,
    Axes,
    PermutationSpec,
    SpecError,
    Sum,
    Turns,
    compose,
    identity,
    inverse,
    permute,
    random_perms,
    to_matrices,
    transpose,
)
from dwalign.symmetry.axes import length
from tests import drawn

SPECS = {
    "mlp": mlp(4, (5, 6, 3), 2).spec,
    "factored": PermutationSpec({"conv": Axes(3, 3, None, "c3"), "dense": Axes((49, "c3"), "h0")}, {"c3": 4, "h0": 6}),
    "inner": PermutationSpec([Axes(("a", 3), ("b", "a", 2))], {"a": 3, "b": 2}),
    "sum": PermutationSpec({"k": Axes(Sum("a", ("b", 4), 2), Sum("b", 5)), "a": Axes("a")}, {"a": 3, "b": 4}),
    "turns": PermutationSpec({"k": Axes(("b", Turns("a", "a", 3)), "b"), "a": Axes("a")}, {"a": 3, "b": 4}),
    "turns, not whole": PermutationSpec({"k": Axes("b", Turns("a", "b", 3)), "a": Axes("a")}, {"a": 4, "b": 4}),
    "twice": PermutationSpec({"w": Axes("h", "h"), "b": Axes("h")}, {"h": 5}),
    "heads": PermutationSpec(
        {"w": Axes("head", "qk", None), "o": Axes("head", "qk", None), "flat": Axes(("head", "qk"))},
        {"head": 3, "qk": 4},
        batch={"qk": ("head",)},
    ),
    "layers": PermutationSpec(
        (Axes("layer", None, "h"), Axes("h", "h", "layer")), {"h": 5}, batch={"h": ("layer",)}, fixed={"layer": 2}
    ),
    "tower": PermutationSpec(
        [Axes("layer", "head", "qk"), Axes("qk", ("head", 2), Sum("layer", "layer")), Axes("layer", "head")],
        {"head": 3, "qk": 4},
        batch={"qk": ("layer", "head"), "head": ("layer",)},
        fixed={"layer": 2},
    ),
    "product": PermutationSpec(
        [Axes("expert", "head", "qk"), Axes("head"), Axes("expert", "expert")],
        {"qk": 4, "head": 3, "expert": 2},
        batch={"qk": ("head", "expert")},
    ),
}
MODES = {
    "numpy": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: lambda *args: jax.tree.map(lambda x: np.asarray(x)[1], jax.jit(jax.vmap(f))(*stack(args))),
}


def stack(args):
    """The arguments as the second of a batch of two; the first is a mirror image, so that a mix-up shows."""
    return jax.tree.map(lambda x: np.stack([x if x.ndim == 0 else np.flip(x, -1), x]), args)


def random_params(spec, seed):
    rng = np.random.default_rng(seed)

    def array(axes):
        dims = [3 if dim == ((None,),) else length(dim, spec.size) for dim in axes.dims]
        return rng.standard_normal(dims, np.float32)

    return jax.tree.map(array, spec.axes)


def elements(spec, seed, n):
    return [drawn.perms(spec, 10 * seed + k) for k in range(n)]


on_every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@on_every_spec
def test_inverse_restores_bit_for_bit(spec):
    params, (perms,) = random_params(spec, 0), elements(spec, 1, 1)
    back, moved = inverse(spec, perms), permute(spec, params, perms)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
    assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True))
    chex.assert_trees_all_equal(permute(spec, moved, back), params)
    chex.assert_trees_all_equal(permute(spec, permute(spec, params, back), perms), params)
    chex.assert_trees_all_equal(inverse(spec, back), perms)


@on_every_spec
def test_composition_acts_as_composition(spec):
    params, (first, second, third) = random_params(spec, 2), elements(spec, 3, 3)
    both, neutral = lambda outer, inner: compose(spec, outer, inner), identity(spec)
    expected = permute(spec, permute(spec, params, first), second)
    chex.assert_trees_all_equal(permute(spec, params, both(second, first)), expected)
    chex.assert_trees_all_equal(both(third, both(second, first)), both(both(third, second), first))
    chex.assert_trees_all_equal(both(first, inverse(spec, first)), neutral)
    chex.assert_trees_all_equal(both(first, neutral), first)
    chex.assert_trees_all_equal(both(neutral, first), first)
    chex.assert_trees_all_equal(permute(spec, params, neutral), params)


@on_every_spec
def test_soft_with_permutation_matrices_is_hard(spec):
    params, (perms,) = random_params(spec, 4), elements(spec, 5, 1)
    matrices = to_matrices(perms)
    for group, matrix in matrices.items():
        assert matrix.shape == (*spec.batch_shape(group), spec.sizes[group], spec.sizes[group])
        chex.assert_trees_all_equal(np.argmax(matrix, -1), perms[group].astype(int))
    chex.assert_trees_all_close(permute(spec, params, matrices), permute(spec, params, perms), atol=1e-6)
    chex.assert_trees_all_equal(transpose(spec, transpose(spec, matrices)), matrices)
    if not spec.batch:
        chex.assert_trees_all_equal(transpose(spec, matrices), to_matrices(inverse(spec, perms)))


@on_every_spec
@pytest.mark.parametrize("mode", ["jit", "vmap"])
def test_programs_compute_what_numpy_does(spec, mode):
    """So that the laws hold there too."""

    def hard(params, first, second):
        return permute(spec, params, first), inverse(spec, first), compose(spec, second, first), identity(spec)

    def soft(params, first):
        matrices = to_matrices(first)
        return permute(spec, params, matrices), matrices, transpose(spec, matrices)

    params, (first, second) = random_params(spec, 24), elements(spec, 25, 2)
    found = MODES[mode](lambda *args: (hard(*args), soft(*args[:2])))(params, first, second)
    chex.assert_trees_all_equal(found[0], hard(params, first, second))
    chex.assert_trees_all_close(found[1], soft(params, first), atol=1e-6)


def test_convention():
    spec = PermutationSpec({"w": Axes("a", "b")}, {"a": 3, "b": 2})
    b, perms = {"w": np.arange(6).reshape(3, 2)}, {"a": np.array([2, 0, 1]), "b": np.array([1, 0])}
    moved = permute(spec, b, perms)["w"]
    for i in range(3):
        for j in range(2):
            assert moved[i, j] == b["w"][perms["a"][i], perms["b"][j]]
    soft, units = {"a": np.full((3, 3), 1 / 3, np.float32)}, {"w": np.eye(3, 2, dtype=np.float32)}
    chex.assert_trees_all_close(permute(spec, units, soft)["w"], np.full((3, 2), 1 / 3, np.float32))


def test_batched_groups_act_before_what_they_are_batched_over():
    spec = SPECS["heads"]
    params, (perms,) = random_params(spec, 6), elements(spec, 7, 1)
    moved = permute(spec, params, perms)
    for h in range(3):
        source = int(perms["head"][h])
        expected = params["w"][source][perms["qk"][source]]
        chex.assert_trees_all_equal(moved["w"][h], expected)
    chex.assert_trees_all_equal(moved["flat"].shape, params["flat"].shape)


def test_concatenated_parts_move_separately_and_fixed_positions_stay():
    spec = PermutationSpec([Axes(Sum("a", ("b", 2), 1))], {"a": 2, "b": 2})
    moved = permute(spec, [np.arange(7)], {"a": np.array([1, 0]), "b": np.array([1, 0])})
    assert moved[0].tolist() == [1, 0, 4, 5, 2, 3, 6]


@in_every_mode
def test_one_group_on_two_axes(mode):
    spec = SPECS["twice"]
    params, (perms,) = random_params(spec, 8), elements(spec, 9, 1)
    moved = mode(lambda p, g: permute(spec, p, g))(params, perms)
    chex.assert_trees_all_equal(moved["w"], params["w"][perms["h"]][:, perms["h"]])
    chex.assert_trees_all_close(np.trace(moved["w"]), np.trace(params["w"]), rtol=1e-5)


def test_the_network_computes_the_same_function():
    net = mlp(4, (5, 6, 3), 2)
    # random biases too: an action that forgets them passes where they are equal
    params, perms, x = drawn.started(net.init), drawn.perms(net.spec), drawn.normal(7, 4)
    apply = jax.jit(net.apply)
    out = apply(params, x)
    chex.assert_trees_all_close(apply(permute(net.spec, params, perms), x), out, rtol=1e-4, atol=1e-4)
    batch = stack((params, perms, x))
    for run, args in ((jax.jit, (params, perms, x)), (lambda f: jax.jit(jax.vmap(f)), batch)):
        moved = run(lambda p, g, x: net.apply(permute(net.spec, p, g), x))(*args)
        chex.assert_trees_all_close(moved if run is jax.jit else moved[1], out, rtol=1e-4, atol=1e-4)
    kernels = jax.tree.map(lambda w, v: w if w.ndim > 1 else v, permute(net.spec, params, perms), params)
    assert np.any(np.abs(apply(kernels, x) - out) > 0.1), "forgetting the biases must show"


def test_attention_with_batched_heads_computes_the_same_function():
    spec = PermutationSpec(
        {name: Axes(None, ("head", "qk")) for name in "qk"}
        | {"v": Axes(None, ("head", "v")), "o": Axes(("head", "v"), None)},
        {"head": 3, "qk": 4, "v": 2},
        batch={"qk": ("head",), "v": ("head",)},
    )
    params = drawn.named(q=(6, 12), k=(6, 12), v=(6, 6), o=(6, 6))
    x = drawn.normal(5, 6, seed=12)

    @jax.jit
    def attention(p):
        q, k, v = (jnp.reshape(x @ p[name], (5, 3, -1)) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("thd,shd->hts", q, k))
        return jnp.einsum("hts,shd->thd", weights, v).reshape(5, -1) @ p["o"]

    for perms in elements(spec, 13, 3):
        chex.assert_trees_all_close(attention(permute(spec, params, perms)), attention(params), atol=2e-4)


@pytest.mark.parametrize("seed", range(8))
def test_laws_on_random_specs(seed):
    rng = random.Random(seed)
    names = [f"g{k}" for k in range(rng.randint(2, 4))]
    sizes = {g: rng.randint(2, 4) for g in names} | {"in": 3}
    product = lambda: tuple(rng.choice([*names, rng.randint(1, 2)]) for _ in range(rng.randint(1, 2)))
    axes = [Axes(*(Sum(product(), product()) if rng.random() < 0.3 else product() for _ in range(2))) for _ in range(3)]
    axes += [
        Axes(*names),
        Axes((names[1], "in"), names[0]),
        Axes("in", Sum((names[0], names[1]), (names[0], names[1]))),
    ]
    rng.shuffle(axes)
    spec = PermutationSpec(axes, sizes, batch={"in": (names[0], names[1])})
    params, (first, second) = random_params(spec, seed), elements(spec, seed, 2)
    moved = permute(spec, params, first)
    chex.assert_trees_all_equal(permute(spec, moved, inverse(spec, first)), params)
    chex.assert_trees_all_equal(permute(spec, params, compose(spec, second, first)), permute(spec, moved, second))
    chex.assert_trees_all_close(permute(spec, params, to_matrices(first)), moved, atol=1e-6)


def test_bits_survive_in_every_dtype():
    types = (jnp.bfloat16, np.float16, np.float32, np.int8, np.uint32, np.bool_)
    params = {np.dtype(dtype).name: np.array([0, 1, 2, 3]).astype(dtype) for dtype in types}
    params["odd"] = np.float32([np.nan, -0.0, np.inf, 1e-45])
    spec = PermutationSpec(dict.fromkeys(params, Axes("h")), {"h": 4})
    perms = {"h": np.array([2, 0, 3, 1])}
    act = lambda p, g: permute(spec, p, g)
    for run in (act, jax.jit(act)):
        moved = run(params, perms)
        back = run(moved, inverse(spec, perms))
        for name, w in params.items():
            assert moved[name].dtype == back[name].dtype == w.dtype
            assert np.asarray(moved[name]).tobytes() == w[perms["h"]].tobytes()
            assert np.asarray(back[name]).tobytes() == w.tobytes()


def test_arrays_of_jax_are_moved_outside_of_programs_too():
    spec = SPECS["tower"]
    params, (first, second) = random_params(spec, 30), elements(spec, 31, 2)
    act = lambda p, g, h: (permute(spec, permute(spec, p, g), inverse(spec, h)), compose(spec, g, h))
    found = act(*jax.tree.map(jnp.asarray, (params, first, second)))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    chex.assert_trees_all_equal(found, act(params, first, second))


@on_every_spec
def test_random_elements(spec):
    # this generator compiles in a tenth of the default one's time
    keys = jax.random.split(jax.random.key(15, impl="unsafe_rbg"), 4)
    drawn = jax.jit(jax.vmap(lambda key: random_perms(spec, key)))(keys)
    assert drawn.keys() == spec.sizes.keys()
    for group, perms in drawn.items():
        n = spec.sizes[group]
        assert perms.shape == (4, *spec.batch_shape(group), n) and perms.dtype == jnp.int32
        assert np.all(np.sort(perms, -1) == np.arange(n))


def test_random_elements_are_uniform_and_independent():
    spec = SPECS["heads"]
    keys = jax.random.split(jax.random.key(16), 6000)
    draws = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: random_perms(spec, key)))(keys))
    # each key gives what it would give alone, outside of a program
    alone = random_perms(spec, keys[2])
    assert list(alone) == list(spec.sizes)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[2], draws), alone)
    code = lambda perm: perm @ perm.shape[-1] ** np.arange(perm.shape[-1])
    _, counts = np.unique(code(draws["head"]), return_counts=True)
    assert len(counts) == 6 and np.sum((counts - 1000) ** 2 / 1000) < 30  # chi-square, 5 degrees of freedom
    heads = code(draws["qk"])
    for h in range(3):
        _, counts = np.unique(heads[:, h], return_counts=True)
        assert len(counts) == 24 and np.sum((counts - 250) ** 2 / 250) < 65  # 23 degrees of freedom
    assert 100 < np.sum(heads[:, 0] == heads[:, 1]) < 400  # one in 24 by chance


def test_gradients_flow_through_params_and_soft_permutations():
    spec = SPECS["heads"]
    params, (perms,) = random_params(spec, 17), elements(spec, 18, 1)
    weights = random_params(spec, 19)
    score = lambda p, g: sum(
        jnp.sum(x * y) for x, y in zip(jax.tree.leaves(permute(spec, p, g)), jax.tree.leaves(weights), strict=True)
    )
    slopes = jax.jit(jax.grad(score))(params, perms)
    chex.assert_trees_all_close(slopes, permute(spec, weights, inverse(spec, perms)), atol=1e-6)
    grads = jax.jit(jax.grad(score, 1))(params, to_matrices(perms))
    chex.assert_tree_all_finite(grads)
    assert grads.keys() == spec.sizes.keys() and all(np.any(g != 0) for g in grads.values())


def test_groups_left_out_stay():
    spec = SPECS["mlp"]
    params, (perms,) = random_params(spec, 20), elements(spec, 21, 1)
    some = {"h1": perms["h1"]}
    chex.assert_trees_all_equal(permute(spec, params, some), permute(spec, params, identity(spec) | some))
    chex.assert_trees_all_equal(permute(spec, params, {}), params)


def test_errors_name_the_leaf_or_the_group():
    spec = SPECS["mlp"]
    params, (perms,) = random_params(spec, 22), elements(spec, 23, 1)
    with pytest.raises(SpecError, match=r"\['h9'\].*'h0', 'h1', 'h2'"):
        permute(spec, params, {"h9": perms["h0"]})
    with pytest.raises(SpecError, match=r"\['dense_1'\]\['kernel'\].*h0 = 5, found 6"):
        permute(
            spec, {"params": {**params["params"], "dense_1": {"bias": np.zeros(6), "kernel": np.zeros((6, 6))}}}, {}
        )
    for wrong in (np.arange(4), np.eye(4), np.arange(5.0), np.zeros((2, 5), int), np.zeros((5, 5), int)):
        with pytest.raises(SpecError, match=r"'h0'.*\(5,\) \(integers\) or \(5, 5\) \(floats\)"):
            permute(spec, params, {"h0": wrong})
    with pytest.raises(SpecError, match=r"same groups.*\['h0', 'h1', 'h2'\] and \['h0'\]"):
        compose(spec, perms, {"h0": perms["h0"]})


def test_alignments_are_pytrees_of_arrays():
    spec = SPECS["mlp"]
    align = lambda key: Alignment(random_perms(spec, key), history=jnp.zeros(3))
    found = jax.jit(jax.vmap(align))(jax.random.split(jax.random.key(0), 2))
    assert isinstance(found, Alignment) and found.scores is None and found.history.shape == (2, 3)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
