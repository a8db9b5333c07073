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
    compose,
    identity,
    inverse,
    permute,
    random_perms,
    to_matrices,
    transpose,
)

SPECS = {
    "mlp": mlp(4, (5, 6, 3), 2).spec,
    "factored": PermutationSpec({"conv": Axes(3, 3, None, "c3"), "dense": Axes((49, "c3"), "h0")}, {"c3": 4, "h0": 6}),
    "inner": PermutationSpec([Axes(("a", 3), ("b", "a", 2))], {"a": 3, "b": 2}),
    "sum": PermutationSpec({"k": Axes(Sum("a", ("b", 4), 2), Sum("b", 5)), "a": Axes("a")}, {"a": 3, "b": 4}),
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
    "eager": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: lambda *args: jax.tree.map(lambda x: x[1], jax.vmap(f)(*stack(args))),
}


def stack(args):
    """The arguments as the second of a batch of two; the first is a mirror image, so that a mix-up shows."""
    return jax.tree.map(lambda x: jnp.stack([x if x.ndim == 0 else jnp.flip(x, -1), x]), args)


def random_params(spec, seed):
    rng = np.random.default_rng(seed)

    def array(axes):
        dims = [
            3 if dim == ((None,),) else sum(int(np.prod([spec.size(f) for f in part])) for part in dim)
            for dim in axes.dims
        ]
        return jnp.asarray(rng.standard_normal(dims), jnp.float32)

    return jax.tree.map(array, spec.axes)


def elements(spec, seed, n):
    return [random_perms(spec, key) for key in jax.random.split(jax.random.key(seed), n)]


on_every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@on_every_spec
@in_every_mode
def test_inverse_restores_bit_for_bit(spec, mode):
    params, (perms,) = random_params(spec, 0), elements(spec, 1, 1)
    act = mode(lambda p, g: permute(spec, p, g))
    undo = mode(lambda g: inverse(spec, g))
    moved = act(params, perms)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, params)
    assert any(jnp.any(x != y) for x, y in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True))
    chex.assert_trees_all_equal(act(moved, undo(perms)), params)
    chex.assert_trees_all_equal(act(permute(spec, params, inverse(spec, perms)), perms), params)
    chex.assert_trees_all_equal(undo(undo(perms)), perms)


@on_every_spec
@in_every_mode
def test_composition_acts_as_composition(spec, mode):
    params, (first, second, third) = random_params(spec, 2), elements(spec, 3, 3)
    both = mode(lambda outer, inner: compose(spec, outer, inner))
    expected = permute(spec, permute(spec, params, first), second)
    chex.assert_trees_all_equal(permute(spec, params, both(second, first)), expected)
    chex.assert_trees_all_equal(both(third, both(second, first)), both(both(third, second), first))
    chex.assert_trees_all_equal(both(first, inverse(spec, first)), identity(spec))
    chex.assert_trees_all_equal(both(first, identity(spec)), first)
    chex.assert_trees_all_equal(both(identity(spec), first), first)
    chex.assert_trees_all_equal(permute(spec, params, identity(spec)), params)


@on_every_spec
@in_every_mode
def test_soft_with_permutation_matrices_is_hard(spec, mode):
    params, (perms,) = random_params(spec, 4), elements(spec, 5, 1)
    act = mode(lambda p, g: permute(spec, p, g))
    matrices = to_matrices(perms)
    chex.assert_trees_all_close(act(params, matrices), permute(spec, params, perms), atol=1e-6)
    for group, matrix in matrices.items():
        assert matrix.shape == (*spec.batch_shape(group), spec.sizes[group], spec.sizes[group])
    chex.assert_trees_all_equal(transpose(spec, transpose(spec, matrices)), matrices)
    if not spec.batch:
        chex.assert_trees_all_equal(transpose(spec, matrices), to_matrices(inverse(spec, perms)))


def test_convention():
    spec = PermutationSpec({"w": Axes("a", "b")}, {"a": 3, "b": 2})
    b, perms = {"w": jnp.arange(6).reshape(3, 2)}, {"a": jnp.array([2, 0, 1]), "b": jnp.array([1, 0])}
    moved = permute(spec, b, perms)["w"]
    for i in range(3):
        for j in range(2):
            assert moved[i, j] == b["w"][perms["a"][i], perms["b"][j]]
    soft = {"a": jnp.full((3, 3), 1 / 3)}
    chex.assert_trees_all_close(permute(spec, {"w": jnp.eye(3, 2)}, soft)["w"], jnp.full((3, 2), 1 / 3))


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
    moved = permute(spec, [jnp.arange(7)], {"a": jnp.array([1, 0]), "b": jnp.array([1, 0])})
    assert moved[0].tolist() == [1, 0, 4, 5, 2, 3, 6]


@in_every_mode
def test_one_group_on_two_axes(mode):
    spec = SPECS["twice"]
    params, (perms,) = random_params(spec, 8), elements(spec, 9, 1)
    moved = mode(lambda p, g: permute(spec, p, g))(params, perms)
    chex.assert_trees_all_equal(moved["w"], params["w"][perms["h"]][:, perms["h"]])
    chex.assert_trees_all_close(jnp.trace(moved["w"]), jnp.trace(params["w"]), rtol=1e-5)


@in_every_mode
def test_the_network_computes_the_same_function(mode):
    net = mlp(4, (5, 6, 3), 2)
    keys = jax.random.split(jax.random.key(10), 3)
    perms, x = random_perms(net.spec, keys[1]), jax.random.normal(keys[2], (7, 4))
    # random biases too: an action that forgets them passes where they are equal
    leaves, treedef = jax.tree.flatten(net.init(keys[0]))
    split = jax.random.split(keys[0], len(leaves))
    noise = (jax.random.normal(key, w.shape) for key, w in zip(split, leaves, strict=True))
    params = treedef.unflatten([w + z for w, z in zip(leaves, noise, strict=True)])
    moved = mode(lambda p, g, x: net.apply(permute(net.spec, p, g), x))(params, perms, x)
    chex.assert_trees_all_close(moved, net.apply(params, x), rtol=1e-4, atol=1e-4)
    kernels = jax.tree.map(lambda w, v: w if w.ndim > 1 else v, permute(net.spec, params, perms), params)
    assert jnp.any(jnp.abs(net.apply(kernels, x) - moved) > 0.1), "forgetting the biases must show"


def test_attention_with_batched_heads_computes_the_same_function():
    spec = PermutationSpec(
        {name: Axes(None, ("head", "qk")) for name in "qk"}
        | {"v": Axes(None, ("head", "v")), "o": Axes(("head", "v"), None)},
        {"head": 3, "qk": 4, "v": 2},
        batch={"qk": ("head",), "v": ("head",)},
    )
    params = {
        name: jax.random.normal(key, (6, 6) if name in "ov" else (6, 12))
        for name, key in zip("qkvo", jax.random.split(jax.random.key(11), 4), strict=True)
    }
    x = jax.random.normal(jax.random.key(12), (5, 6))

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
    spec = PermutationSpec({"w": Axes("h")}, {"h": 4})
    perms, back = {"h": jnp.array([2, 0, 3, 1])}, inverse(spec, {"h": jnp.array([2, 0, 3, 1])})
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32, jnp.int8, jnp.uint32, jnp.bool_):
        w = jnp.array([0, 1, 2, 3]).astype(dtype)
        moved = permute(spec, {"w": w}, perms)["w"]
        assert moved.dtype == dtype and moved.tolist() == [w[k] for k in (2, 0, 3, 1)]
        chex.assert_trees_all_equal(permute(spec, {"w": moved}, back)["w"], w)
    odd = jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45])
    restored = permute(spec, permute(spec, {"w": odd}, perms), back)["w"]
    assert np.asarray(restored).tobytes() == np.asarray(odd).tobytes()


@on_every_spec
def test_random_elements(spec):
    for perms in elements(spec, 14, 5):
        assert list(perms) == list(spec.sizes)
        for group, perm in perms.items():
            assert perm.shape == (*spec.batch_shape(group), spec.sizes[group])
            chex.assert_trees_all_equal(jnp.sort(perm, -1), identity(spec)[group])
    keys = jax.random.split(jax.random.key(15), 4)
    chex.assert_trees_all_equal(
        jax.tree.map(lambda x: x[2], jax.vmap(lambda key: random_perms(spec, key))(keys)), random_perms(spec, keys[2])
    )


def test_random_elements_are_uniform_and_independent():
    spec = SPECS["heads"]
    draws = jax.vmap(lambda key: random_perms(spec, key))(jax.random.split(jax.random.key(16), 6000))
    code = lambda perm: jnp.einsum("...n,n->...", perm, perm.shape[-1] ** jnp.arange(perm.shape[-1]))
    _, counts = np.unique(np.asarray(code(draws["head"])), return_counts=True)
    assert len(counts) == 6 and np.sum((counts - 1000) ** 2 / 1000) < 30  # chi-square, 5 degrees of freedom
    heads = np.asarray(code(draws["qk"]))
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
    chex.assert_trees_all_close(jax.grad(score)(params, perms), permute(spec, weights, inverse(spec, perms)), atol=1e-6)
    grads = jax.grad(score, 1)(params, to_matrices(perms))
    chex.assert_tree_all_finite(grads)
    assert all(jnp.any(g != 0) for g in grads.values())


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
            spec, {"params": {**params["params"], "dense_1": {"bias": jnp.zeros(6), "kernel": jnp.zeros((6, 6))}}}, {}
        )
    for wrong in (jnp.arange(4), jnp.eye(4), jnp.arange(5.0), jnp.zeros((2, 5), int), jnp.zeros((5, 5), int)):
        with pytest.raises(SpecError, match=r"'h0'.*\(5,\) \(integers\) or \(5, 5\) \(floats\)"):
            permute(spec, params, {"h0": wrong})
    with pytest.raises(SpecError, match=r"same groups.*\['h0', 'h1', 'h2'\] and \['h0'\]"):
        compose(spec, perms, {"h0": perms["h0"]})


def test_alignments_are_pytrees_of_arrays():
    spec = SPECS["mlp"]
    align = lambda key: Alignment(random_perms(spec, key), history=jnp.zeros(3))
    found = jax.jit(jax.vmap(align))(jax.random.split(jax.random.key(0), 2))
    assert isinstance(found, Alignment) and found.method is None and found.history.shape == (2, 3)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
