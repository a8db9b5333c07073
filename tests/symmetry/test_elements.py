"""Laws of elements of every kind: orders with factors, and maps; eagerly, under jit and under vmap."""

import itertools
from fractions import Fraction

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.symmetry import (
    Axes,
    Monomial,
    PermutationSpec,
    SpecError,
    Sum,
    compose,
    correspondence,
    elements as elements_of_kinds,
    identity,
    inverse,
    permute,
    permute_block,
    random_perms,
    restore_block,
    to_matrices,
)
from dwalign.symmetry.powers import Power, parse_power, power_text
from tests import drawn
from tests.symmetry.test_action import random_params

HEADS = {"head": 2, "qk": 3, "mlp": 4}


def heads(qk, mlp):
    """Groups that are batched over heads, which change places themselves."""
    powers = {"permutation": ("mlp", "mlp")}.get(mlp, ("mlp", "mlp^-1"))
    back = "qk^-1" if qk == "linear" else "qk"
    return PermutationSpec(
        {
            "q": Axes(None, "head", "qk"),
            "k": Axes(None, ("head", back)),
            "up": Axes("head", None, powers[0]),
            "down": Axes(("head", powers[1]), None),
            "gate": Axes("head"),
        },
        HEADS,
        batch={"qk": ("head",), "mlp": ("head",)},
        kinds={"qk": qk, "mlp": mlp},
    )


def chain(kind, *, bias="h", down="h^-1", n=5):
    return PermutationSpec(
        {"up": Axes(None, "h"), "bias": Axes(bias), "down": Axes(down, None)}, {"h": n}, kinds={"h": kind}
    )


SPECS = {
    "scale": chain("scale"),
    "half": chain("scale", down="h^-3/2", bias="h^1/3"),
    "sign": chain("sign", bias="h^0", down="h"),
    "monomial": chain("monomial", down="h^-2~1"),
    "orthogonal": chain("orthogonal", down="h"),
    "linear": chain("linear"),
    "gated": PermutationSpec(
        {"one": Axes("h^1:0"), "two": Axes(None, "h^0:1~0:1"), "down": Axes("h^-1:-1", 2), "gain": Axes("h^1:2~0:0")},
        {"h": 4},
        kinds={"h": "monomial"},
    ),
    "sum": PermutationSpec(
        [Axes(Sum("a", ("b^-1", 2), 1), "b"), Axes(Sum("a^-1", "a^2"))],
        {"a": 3, "b": 4},
        kinds=dict(a="scale", b="linear"),
    ),
    "twice": PermutationSpec({"w": Axes("h", "h^-1"), "b": Axes("h")}, {"h": 4}, kinds={"h": "linear"}),
    "mixed": PermutationSpec(
        {"w": Axes("a", "b", "c"), "o": Axes("a^-1", "b^0", "c"), "p": Axes("p", "c")},
        {"a": 3, "b": 4, "c": 2, "p": 3},
        kinds={"a": "linear", "b": "sign", "c": "orthogonal"},
    ),
    "layers": PermutationSpec(
        (Axes("layer", None, "h"), Axes("h^-1", "r", "layer")),
        {"h": 5, "r": 3},
        batch={"h": ("layer",)},
        fixed={"layer": 2},
        kinds={"h": "scale", "r": "orthogonal"},
    ),
    "heads": heads("linear", "scale"),
    "heads of maps": heads("orthogonal", "monomial"),
}
FACTORS = {name: spec for name, spec in SPECS.items() if {"orthogonal", "linear"}.isdisjoint(spec.kinds.values())}
# compiling takes longer than all else: these have every kind, also batched, with one direction and with several
TRACED = ("gated", "mixed", "heads")
on_every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
# what rounding leaves in double precision
EXACT = dict(rtol=1e-9, atol=1e-9)
SINGLE = dict(rtol=1e-3, atol=1e-4)


def wide(spec, seed):
    """On the host and in double precision."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float64), random_params(spec, seed))


def elements(spec, seed, n):
    rng = np.random.default_rng(seed)
    return [random_perms(spec, rng) for _ in range(n)]


def same(spec, one, two, params):
    """Elements are the same if they act alike."""
    chex.assert_trees_all_close(permute(spec, params, one), permute(spec, params, two), **EXACT)


@on_every_spec
def test_composition_acts_as_composition(spec):
    params, (first, second, third) = wide(spec, 0), elements(spec, 1, 3)
    both, neutral = lambda outer, inner: compose(spec, outer, inner), identity(spec)
    moved = permute(spec, params, first)
    assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True))
    chex.assert_trees_all_close(permute(spec, params, both(second, first)), permute(spec, moved, second), **EXACT)
    same(spec, both(third, both(second, first)), both(both(third, second), first), params)
    same(spec, both(first, neutral), first, params)
    same(spec, both(neutral, first), first, params)
    chex.assert_trees_all_equal(permute(spec, params, neutral), params)


@on_every_spec
def test_inverse_undoes(spec):
    params, (perms,) = wide(spec, 2), elements(spec, 3, 1)
    back = inverse(spec, perms)
    chex.assert_trees_all_close(permute(spec, permute(spec, params, perms), back), params, **EXACT)
    chex.assert_trees_all_close(permute(spec, permute(spec, params, back), perms), params, **EXACT)
    same(spec, compose(spec, perms, back), identity(spec), params)
    same(spec, inverse(spec, back), perms, params)


@on_every_spec
def test_restore_is_the_adjoint(spec):
    one, two, (perms,) = wide(spec, 4), wide(spec, 5), elements(spec, 6, 1)
    for x, y in zip(spec.blocks(one), spec.blocks(two), strict=True):
        ahead = np.sum(permute_block(spec, x, perms).array * y.array)
        np.testing.assert_allclose(ahead, np.sum(x.array * restore_block(spec, y, perms).array), rtol=1e-9)


@pytest.mark.parametrize("spec", [SPECS[name] for name in TRACED], ids=TRACED)
def test_programs_compute_what_numpy_does(spec):
    def all_of(params, first, second):
        moved = permute(spec, params, compose(spec, second, first))
        return moved, permute(spec, moved, inverse(spec, first))

    params, (first, second) = random_params(spec, 7), elements(spec, 8, 2)
    first, second = (
        jax.tree.map(lambda x: x.astype(np.float32) if x.dtype.kind == "f" else x, g) for g in (first, second)
    )
    expected = all_of(params, first, second)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(expected))
    batch = jax.tree.map(lambda x, y: np.stack([y, x]), (params, first, second), (params, second, first))
    found = jax.jit(jax.vmap(all_of))(*batch)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], found), expected, **SINGLE)


@on_every_spec
def test_random_elements_are_of_their_kinds(spec):
    host = random_perms(spec, np.random.default_rng(9))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    keys = jax.random.split(jax.random.key(10, impl="unsafe_rbg"), 3)
    if spec is SPECS["heads"]:
        draws = jax.jit(jax.vmap(lambda key: random_perms(spec, key)))(keys)
    else:
        draws = jax.tree.map(lambda *x: np.stack(x), host, *elements(spec, 10, 2))
    for group, n in spec.sizes.items():
        shape, kind = (3, *spec.batch_shape(group), n), spec.kinds[group]
        element = draws[group]
        assert len({jax.tree.structure(one[group]) for one in (host, draws)}) == 1
        if kind in ("orthogonal", "linear"):
            assert element.shape == (*shape, n)
            sizes = np.linalg.svd(element, compute_uv=False)
            assert np.allclose(sizes, 1, atol=1e-5) if kind == "orthogonal" else np.all((sizes > 0.1) & (sizes < 10))
            continue
        order = element.perm if isinstance(element, Monomial) else element
        assert isinstance(element, Monomial) == (kind != "permutation")
        assert order.shape == shape and np.all(np.sort(order, -1) == np.arange(n))
        scales, signs = spec.directions[group]
        if scales:
            assert element.scale.shape == (*shape, scales) and np.all(element.scale > 0) and np.ptp(element.scale) > 0.1
        if signs:
            assert element.sign.shape == (*shape, signs) and set(np.unique(element.sign)) == {-1, 1}


def test_convention():
    spec = PermutationSpec(
        {"w": Axes("h"), "v": Axes("h^-2~1"), "gate": Axes("h^0")}, {"h": 3}, kinds={"h": "monomial"}
    )
    element = Monomial(np.array([2, 0, 1]), np.array([[2.0], [3.0], [5.0]]), np.array([[1.0], [-1.0], [1.0]]))
    b = {"w": np.array([1.0, 10.0, 100.0]), "v": np.ones(3), "gate": np.array([1.0, 2.0, 3.0])}
    moved = permute(spec, b, {"h": element})
    assert moved["w"].tolist() == [200.0, -3.0, 50.0]
    np.testing.assert_allclose(moved["v"], [1 / 4, -1 / 9, 1 / 25])
    assert moved["gate"].tolist() == [3.0, 1.0, 2.0]
    spec = PermutationSpec({"w": Axes("h"), "v": Axes("h^-1")}, {"h": 2}, kinds={"h": "linear"})
    matrix = np.array([[1.0, 2.0], [0.0, 1.0]])
    moved = permute(spec, {"w": np.array([1.0, 10.0]), "v": np.array([1.0, 10.0])}, {"h": matrix})
    assert moved["w"].tolist() == [21.0, 10.0]
    np.testing.assert_allclose(moved["v"], [1.0, 8.0])


def test_batched_elements_act_before_what_they_are_batched_over():
    spec = SPECS["heads"]
    params, (perms,) = wide(spec, 11), elements(spec, 12, 1)
    moved = permute(spec, params, perms)
    for head, source in enumerate(perms["head"]):
        matrix = perms["qk"][source]
        np.testing.assert_allclose(moved["q"][:, head], params["q"][:, source] @ matrix.T)
        k = params["k"].reshape(-1, 2, 3)[:, source] @ np.linalg.inv(matrix)
        np.testing.assert_allclose(moved["k"].reshape(-1, 2, 3)[:, head], k)
        order, scale = perms["mlp"].perm[source], perms["mlp"].scale[source, :, 0]
        np.testing.assert_allclose(moved["up"][head], params["up"][source][:, order] * scale)


@pytest.mark.parametrize("spec", FACTORS.values(), ids=FACTORS)
def test_soft_monomials_at_one_hot_plans_are_hard(spec):
    params, (perms,) = wide(spec, 13), elements(spec, 14, 1)

    def soft(element, plan):
        spread = lambda x: None if x is None else np.broadcast_to(x[..., None, :], (*plan.shape, x.shape[-1]))
        return Monomial(plan, spread(element.scale), spread(element.sign)) if isinstance(element, Monomial) else plan

    order = {g: e.perm if isinstance(e, Monomial) else e for g, e in perms.items()}
    plans = {g: soft(perms[g], plan) for g, plan in to_matrices(order).items()}
    chex.assert_trees_all_close(permute(spec, params, plans), permute(spec, params, perms), **EXACT)
    for x in spec.blocks(params):
        expected = restore_block(spec, x, perms).array
        np.testing.assert_allclose(restore_block(spec, x, plans).array, expected, **EXACT)


@pytest.mark.parametrize("spec", [SPECS[name] for name in TRACED], ids=TRACED)
def test_gradients_are_finite_and_reach_everything(spec):
    params, (perms,) = random_params(spec, 15), elements(spec, 16, 1)
    is_float = lambda x: x.dtype.kind == "f"
    leaves, treedef = jax.tree.flatten(perms)
    floats = [x.astype(np.float32) for x in leaves if is_float(x)]

    def score(params, floats):
        rest = iter(floats)
        moved = permute(spec, params, treedef.unflatten([next(rest) if is_float(x) else x for x in leaves]))
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(moved))

    slopes = jax.jit(jax.grad(score, (0, 1)))(params, floats)
    chex.assert_tree_all_finite(slopes)
    signs = lambda x: np.array_equal(np.abs(x), np.ones_like(x))
    assert all(np.all(x != 0) for x in jax.tree.leaves(slopes[0]))
    assert all(np.any(x != 0) for x, of in zip(slopes[1], floats, strict=True) if not signs(of))


@pytest.mark.parametrize("kind", ["scale", "sign", "monomial", "orthogonal", "linear"])
def test_types_are_kept(kind):
    types = (jnp.bfloat16, np.float16, np.float32, np.float64, np.complex64)
    params = {np.dtype(dtype).name: np.array([1, 2, 3, 4]).astype(dtype) for dtype in types}
    spec = PermutationSpec(dict.fromkeys(params, Axes("h")), {"h": 4}, kinds={"h": kind})
    (perms,) = elements(spec, 17, 1)
    moved = permute(spec, params, perms)
    assert {name: leaf.dtype for name, leaf in moved.items()} == {name: leaf.dtype for name, leaf in params.items()}
    for name in ("bfloat16", "float16", "complex64"):
        np.testing.assert_allclose(moved[name].astype(complex), moved["float64"], rtol=0.01)
    # double precision is off there
    traced = jax.eval_shape(lambda p: permute(spec, p, perms), params)
    assert all(leaf.dtype.name == name for name, leaf in traced.items() if name != "float64")


@on_every_spec
def test_json_and_descriptions_keep_kinds(spec):
    back = PermutationSpec.from_json(spec.to_json())
    assert back == spec and hash(back) == hash(spec)
    assert back.kinds == spec.kinds and back.powers == spec.powers and back.directions == spec.directions
    assert spec != spec.with_kinds() and spec.to_json() != spec.with_kinds().to_json()


@on_every_spec
def test_fewer_kinds_are_a_part_of_all(spec):
    params, (order,) = wide(spec, 18), elements(spec.with_kinds(), 19, 1)
    less = spec.with_kinds()
    assert not less.has_kinds and less.sizes == spec.sizes and less.batch == spec.batch
    chex.assert_trees_all_equal(permute(less, params, order), permute(spec, params, order))
    assert spec.with_kinds(*spec.kinds.values()) == spec
    # what is kept for a spec is found by its identity
    assert spec.with_kinds() is less
    for names in itertools.combinations(("sign", "scale", "orthogonal", "linear"), 2):
        part = spec.with_kinds(*names)
        (element,) = elements(part, 20, 1)
        # what is left acts as it did in the whole
        chex.assert_trees_all_close(permute(spec, params, element), permute(part, params, element), **EXACT)


def test_specs_correspond_if_kinds_and_powers_do():
    other = PermutationSpec(
        {"up": Axes(None, "x"), "bias": Axes("x^1"), "down": Axes("x^-1", None)}, {"x": 5}, kinds={"x": "scale"}
    )
    assert correspondence(SPECS["scale"], other) == {"h": "x"}
    assert correspondence(SPECS["scale"], chain("scale", down="h^-2")) is None
    assert correspondence(SPECS["scale"], chain("linear")) is None
    assert correspondence(SPECS["scale"], SPECS["scale"].with_kinds()) is None
    assert correspondence(chain("orthogonal", down="h"), chain("permutation", down="h")) is None


def test_powers_are_read_as_they_are_written():
    rng = np.random.default_rng(0)
    for kind, scales, signs in [("scale", True, False), ("sign", False, True), ("monomial", True, True)] * 30:
        numbers = [
            Fraction(int(n), int(d)) for n, d in zip(rng.integers(-3, 4, 3), rng.choice([1, 1, 2, 3], 3), strict=True)
        ]
        odd = rng.integers(0, 2, 3).tolist()
        k, m = rng.integers(1, 4, 2)
        power = Power(tuple(numbers[:k]) if scales else (), tuple(odd[:m]) if signs else ())
        assert parse_power(kind, power_text(power) or "1") == power


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("permutation", "h^"),
        ("scale", "h^x"),
        ("scale", "h^1/0"),
        ("scale", "h^1~1"),
        ("sign", "h^1/2"),
        ("monomial", "h^1/2"),
        ("linear", "h^2"),
        ("linear", "h^1:1"),
        ("orthogonal", "h^1:"),
    ],
)
def test_what_is_no_power_is_an_error(kind, text):
    with pytest.raises(SpecError):
        PermutationSpec({"w": Axes("h"), "v": Axes(text)}, {"h": 3}, kinds={"h": kind})


def test_errors_name_the_group_and_the_part():
    spec = SPECS["monomial"]
    params, (perms,) = random_params(spec, 21), elements(spec, 22, 1)
    with pytest.raises(SpecError, match=r"'h'\].scale must have shape \(5, 1\), found \(5,\)"):
        permute(spec, params, {"h": perms["h"]._replace(scale=np.ones(5))})
    with pytest.raises(SpecError, match="of kind 'permutation', which has no factors"):
        permute(spec.with_kinds(), params, perms)
    with pytest.raises(SpecError, match="kinds must map groups"):
        PermutationSpec({"w": Axes("h")}, {"h": 3}, kinds={"h": "unitary"})
    with pytest.raises(SpecError, match=r"batched over.*must be of kind 'permutation'"):
        PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 3}, batch={"b": ("a",)}, kinds={"a": "scale"})
    with pytest.raises(SpecError, match=r"'h' must have a power for each of its directions.*\['w'\]"):
        PermutationSpec({"v": Axes("h^1:0"), "w": Axes("h")}, {"h": 3}, kinds={"h": "scale"})


def test_factors_at_fractions_are_exact():
    spec = PermutationSpec({"w": Axes("h^1/3")}, {"h": 2}, kinds={"h": "scale"})
    assert spec.powers[0][0][0].scale == (Fraction(1, 3),)
    element = Monomial(np.array([0, 1]), np.array([[2.0], [3.0]]))
    moved = permute(spec, {"w": np.ones(2)}, {"h": element})
    np.testing.assert_allclose(moved["w"] ** 3, [2.0, 3.0], rtol=1e-14)


@pytest.mark.parametrize(("batch", "axis"), [((0,), 1), ((0,), 2), ((2,), 0), ((1, 0), 2), ((0, 2), 1)])
def test_large_slices_are_taken_one_by_one(monkeypatch, batch, axis):
    """As all at once, whichever way the array lies in memory."""
    rng = np.random.default_rng(0)
    for array in (drawn.normal(3, 4, 5), drawn.normal(5, 4, 3).T):
        shape = (*(array.shape[k] for k in batch), array.shape[axis])
        perm = rng.permuted(np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape), axis=-1)
        move = lambda array=array, perm=perm: elements_of_kinds.act(array, axis, batch, perm, "permutation", Power())
        with monkeypatch.context() as patch:
            patch.setattr(elements_of_kinds, "WORTH_A_CALL", np.inf)
            at_once = move()
            patch.setattr(elements_of_kinds, "WORTH_A_CALL", 0)
            np.testing.assert_array_equal(move(), at_once)
            assert (at_once != array).any()
