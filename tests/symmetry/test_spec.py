"""Specs: notation, blocks, validation, JSON, hashing."""

import copy
import itertools
import json
import pickle
import random

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import mlp
from dwalign.symmetry import Axes, PermutationSpec, SpecError, Sum, Turns, permute
from dwalign.symmetry.spec import Note
from tests import drawn

HEADS = PermutationSpec(
    {"w": Axes("head", "qk", None), "o": Axes("head", "qk", None)}, {"head": 3, "qk": 4}, batch={"qk": ("head",)}
)
LAYERS = PermutationSpec(
    {"scan": [Axes("layer", None, "h"), Axes("layer", "h")]}, {"h": 5}, batch={"h": ("layer",)}, fixed={"layer": 2}
)
FLAT = PermutationSpec({"conv": Axes(3, 3, None, "c3"), "dense": Axes((49, "c3"), "h0")}, {"c3": 4, "h0": 6})
PARTS = PermutationSpec(
    {"k": Axes(Sum("a", ("b", 4), 2), Sum("b", 5)), "a": Axes("a"), "empty": Axes()}, {"a": 3, "b": 2}
)
NESTED = PermutationSpec(
    {
        "kernel": Axes(None, ("head", Sum("qk", "qk", ("v", 2)))),
        "turns": Axes(Turns("head", 3), (2, Turns("other", (2, 2), Sum(1, "head")))),
        "stack": Axes.concatenate(1, Axes("head", 2, "qk"), Axes("head", Sum(1, 2), "other")),
        "plain": [Axes("head", "qk"), Axes("head", "v"), Axes("other")],
    },
    {"head": 3, "qk": 4, "v": 2, "other": 4},
    batch={"qk": ("head",), "v": ("head",)},
)
SPECS = {
    "nested": NESTED,
    "mlp": mlp(8, (5, 6, 7), 3).spec,
    "heads": HEADS,
    "layers": LAYERS,
    "flat": FLAT,
    "parts": PARTS,
}


def random_params(spec, seed, none=3):
    """A tree that fits the spec; anonymous fixed dimensions get the size `none`."""
    rng = np.random.default_rng(seed)

    def size(factor):
        return whole(factor) if isinstance(factor, tuple) else spec.size(factor)

    def whole(dim):
        return none if dim == ((None,),) else sum(int(np.prod([size(f) for f in part])) for part in dim)

    def shape(axes):
        return [whole(dim) for dim in axes.dims]

    return jax.tree.map(lambda axes: rng.standard_normal(shape(axes), np.float32), spec.axes)


def random_spec(seed):
    """A random spec with products, sums, groups on several axes, and perhaps a batched group."""
    rng = random.Random(seed)
    names = [f"g{k}" for k in range(rng.randint(1, 4))]
    sizes = {g: rng.randint(1, 4) for g in names}

    def product():
        return tuple(rng.choice([*names, rng.randint(1, 3)]) for _ in range(rng.randint(1, 2)))

    def dim():
        choice = rng.random()
        one, other = product(), product()
        turns = (Turns(one, one[::-1]), *other)
        return None if choice < 0.2 else one if choice < 0.6 else Sum(one, other) if choice < 0.8 else turns

    axes = [Axes(*(dim() for _ in range(rng.randint(0, 3)))) for _ in range(rng.randint(1, 4))]
    axes += [Axes(*names)]
    batch, fixed = {}, {}
    if rng.random() < 0.5:
        axes += [Axes((names[0], "inner"), Sum("layer", 2)), Axes("inner", names[0], "layer")][rng.random() < 0.5 :]
        sizes["inner"], fixed["layer"], batch["inner"] = 3, 2, (names[0],)
    return PermutationSpec({"tree": axes, "more": (Axes(names[0]),)}, sizes, batch=batch, fixed=fixed)


def test_notation_reads_back():
    for axes in (Axes(), Axes(None), Axes("h0", None, 5), Axes((49, "c3"), "h0"), Axes(Sum("a", ("b", 4)), Sum("a"))):
        assert Axes.parse(str(axes)) == axes and hash(Axes.parse(str(axes))) == hash(axes)
    for leaf in NESTED.leaves:
        assert Axes.parse(str(leaf)) == leaf and hash(Axes.parse(str(leaf))) == hash(leaf)
    assert str(Axes(("a", Sum("b", ("c", 2))))) == "a*(b + c*2)" and Axes(("a", Sum("b"))) == Axes(("a", "b"))
    assert Axes(Sum("a", Sum("b", "c"))) == Axes(Sum("a", "b", "c"))
    assert Axes(Turns("a", "b")) != Axes(Sum("a", "b")) and Axes(Turns("a")) == Axes("a")
    assert Axes("a", "b") != Axes("b", "a") and Axes(Sum("a", "b")) != Axes(("a", "b"))


@pytest.mark.parametrize(
    "dim",
    [
        ("a", None),
        Sum("a", None),
        (),
        Sum(),
        0,
        -2,
        1.5,
        ("a", ("b", "c")),
        ("a", Sum("b", None)),
        True,
        Turns(),
        Turns("a", ()),
    ],
)
def test_notation_rejects(dim):
    with pytest.raises(SpecError, match="Axes"):
        Axes(dim)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_blocks_have_one_axis_a_factor_and_assemble_is_the_inverse(spec):
    params = random_params(spec, 0)
    spec.check(params)
    for block in spec.blocks(params):
        assert len(block.factors) == block.array.ndim
        for factor, n in zip(block.factors, block.array.shape, strict=True):
            assert factor is None or n == spec.size(factor)
    chex.assert_trees_all_equal(spec.assemble(spec.blocks(params)), params)
    chex.assert_trees_all_equal(jax.jit(lambda p: spec.assemble(spec.blocks(p)))(params), params)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), params, random_params(spec, 1))
    chex.assert_trees_all_equal(jax.jit(jax.vmap(lambda p: spec.assemble(spec.blocks(p))))(stacked), stacked)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_random_specs(seed):
    spec = random_spec(seed)
    params = random_params(spec, seed)
    chex.assert_trees_all_equal(spec.assemble(spec.blocks(params)), params)
    assert PermutationSpec.from_json(spec.to_json()) == spec


def test_first_factor_varies_slowest():
    spec = PermutationSpec([Axes((2, "c"))], {"c": 3})
    (block,) = spec.blocks([np.arange(6)])
    assert block.factors == (None, "c") and block.array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_what_takes_turns_lies_side_by_side():
    spec = PermutationSpec([Axes((2, Turns("a", "b")))], {"a": 3, "b": 3})
    first, second = spec.blocks([np.arange(12)])
    assert first.array.tolist() == [[0, 2, 4], [6, 8, 10]] and second.array.tolist() == [[1, 3, 5], [7, 9, 11]]
    with pytest.raises(SpecError, match="one length, or the first of them one more, found"):
        PermutationSpec([Axes(Turns("a", "b"))], {"a": 2, "b": 3}).check([np.ones(5)])


def test_the_last_turn_need_not_be_whole():
    spec = PermutationSpec([Axes(None, Turns("a", 2, "b"))], {"a": 3, "b": 2})
    array = np.arange(14).reshape(2, 7)
    found = [one.array.tolist() for one in spec.blocks([array])]
    assert found == [[[0, 3, 6], [7, 10, 13]], [[1, 4], [8, 11]], [[2, 5], [9, 12]]]
    assert np.array_equal(
        permute(spec, [array], {"a": np.array([2, 1, 0]), "b": np.array([1, 0])})[0][0], [6, 1, 5, 3, 4, 2, 0]
    )


def test_parts_of_a_concatenation():
    spec = PermutationSpec({"k": Axes(Sum("a", ("b", 2)), "a")}, {"a": 2, "b": 3})
    first, second = spec.blocks({"k": np.arange(16).reshape(8, 2)})
    assert first.factors == ("a", "a") and first.array.tolist() == [[0, 1], [2, 3]]
    assert second.factors == ("b", None, "a") and second.array[2, 1].tolist() == [14, 15]
    assert first.path != second.path


def test_a_sum_inside_a_product_and_pieces_of_an_array():
    spec = PermutationSpec(
        {"k": Axes(("h", Sum("a", "b"))), "s": Axes.concatenate(0, Axes(1, "a"), Axes(1, "c"))},
        {"h": 2, "a": 2, "b": 1, "c": 2},
    )
    params = {"k": np.arange(6), "s": np.arange(4).reshape(2, 2)}
    blocks = [(block.factors, block.array.tolist()) for block in spec.blocks(params)]
    assert blocks[:2] == [(("h", "a"), [[0, 1], [3, 4]]), (("h", "b"), [[2], [5]])]
    assert blocks[2:] == [((None, "a"), [[0, 1]]), ((None, "c"), [[2, 3]])]
    moved = permute(spec, params, {"h": np.array([1, 0]), "a": np.array([1, 0]), "c": np.array([0, 1])})
    assert moved["k"].tolist() == [4, 3, 5, 1, 0, 2] and moved["s"].tolist() == [[1, 0], [2, 3]]
    with pytest.raises(SpecError, match="equally many dimensions"):
        Axes.concatenate(0, Axes(1, "a"), Axes("a"))
    with pytest.raises(SpecError, match="size along dimension 1"):
        Axes.concatenate(1, Axes(1, None), Axes(1, "a"))


@pytest.mark.parametrize("text", ["a*", "*a", "a + ", "(a", "a)", "a*(b + c", "a,,b", "0: a | ", "3: a, b | a, b"])
def test_broken_notation_is_a_spec_error(text):
    with pytest.raises(SpecError):
        Axes.parse(text)


def test_batch_shape_and_order():
    axes = Axes("layer", "head", "qk")
    spec = PermutationSpec(
        [axes], {"head": 2, "qk": 3}, batch={"qk": ("layer", "head"), "head": ("layer",)}, fixed={"layer": 4}
    )
    assert spec.batch_shape("qk") == (4, 2) and spec.batch_shape("head") == (4,)
    assert spec.levels == (("head",), ("qk",))
    assert LAYERS.batch_shape("h") == (2,) and FLAT.batch_shape("c3") == ()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_json_hash_and_static_argument(spec):
    again = PermutationSpec.from_json(spec.to_json())
    assert again == spec and hash(again) == hash(spec) and again.batch_shape == again.batch_shape
    assert again.to_json() == spec.to_json()
    traces = []

    def count(spec, params):
        traces.append(spec)
        return permute(spec, params, {})

    jitted = jax.jit(count, static_argnums=0)
    params = random_params(spec, 0)
    chex.assert_trees_all_equal(jitted(spec, params), params)
    jitted(again, params)
    assert len(traces) == 1, "an equal spec must hit the same compiled program"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda spec: pickle.loads(pickle.dumps(spec))])
def test_specs_go_to_other_processes(again):
    notes = [Note("['w']", 1, 3, "an output")]
    axes = {"w": Axes.parse("h0, _"), "v": Axes("h0^-1")}
    spec = PermutationSpec(axes, {"h0": 2}, kinds={"h0": "scale"}, notes=notes, bounds={"h0": "why"})
    for one in (spec, *SPECS.values()):
        other = again(one)
        assert other == one and hash(other) == hash(one) and other.to_json() == one.to_json()
    assert again(spec).notes == tuple(notes) and again(spec).bounds == {"h0": "why"}


def test_different_specs_differ():
    base = PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 2})
    others = [
        PermutationSpec({"w": Axes("b", "a")}, {"a": 2, "b": 2}),
        PermutationSpec({"v": Axes("a", "b")}, {"a": 2, "b": 2}),
        PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 3}),
        PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 2}, batch={"b": ("a",)}),
        PermutationSpec({"w": Axes("a", "b")}, {"a": 2}, fixed={"b": 2}),
    ]
    assert all(x != y for x, y in itertools.combinations([base, *others], 2))


def test_spec_does_not_follow_later_changes_of_its_arguments():
    axes, sizes = {"w": Axes("a")}, {"a": 2}
    spec = PermutationSpec(axes, sizes)
    axes["w"], sizes["a"] = Axes("b"), 3
    assert spec == PermutationSpec({"w": Axes("a")}, {"a": 2}) and "'a'" not in str(spec.axes["w"])
    assert PermutationSpec.from_json(spec.to_json()) == spec
    with pytest.raises(TypeError):
        spec.sizes["a"] = 3


def test_how_layers_read_is_kept_beside_a_spec_and_must_be_an_order():
    turned = PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 2}, reading={"['w']": (1, 0)})
    assert turned == PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 2})
    for kept in (PermutationSpec.from_json(turned.to_json()), turned.with_statistics([]), turned.with_kinds()):
        assert dict(kept.reading) == {"['w']": (1, 0)}
    for wrong in ({"['w']": (0, 0)}, {"['w']": (0,)}, {"['v']": (0, 1)}):
        with pytest.raises(SpecError, match="reading must map paths of arrays to an order of all their dimensions"):
            PermutationSpec({"w": Axes("a", "b")}, {"a": 2, "b": 2}, reading=wrong)


def test_json_refuses_what_it_cannot_restore():
    with pytest.raises(SpecError):
        PermutationSpec(mlp(2, (3,), 1).init, {"a": 2}).to_json()
    with pytest.raises(SpecError, match="axes, sizes, batch and fixed"):
        PermutationSpec.from_json('{"axes": "a"}')


W = {"layer": {"w": Axes("a", "b")}}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (({"layer": {"w": "a"}}, {"a": 2}), ["['layer']['w']", "Axes"]),
        ((W, {"a": 2}), ["['layer']['w']", "'b'"]),
        ((W, {"a": 2, "b": 2, "c": 2}), ["'c'"]),
        ((W, {"a": 2, "b": 0}), ["'b'", "positive"]),
        ((W, {"a": 2, "b": 2}, {}, {"b": 2}), ["'b'", "both"]),
        (({"w": Axes("7")}, {"7": 2}), ["'7'"]),
        (({"w": Axes("a b")}, {"a b": 2, "x,y": 1}), ["'x,y'"]),
        ((W, {"a": 2, "b": 2}, {"a": ("z",)}), ["'z'"]),
        ((W, {"a": 2, "b": 2}, {"z": ("a",)}), ["'z'"]),
        ((W, {"a": 2, "b": 2}, {"a": ("a",)}), ["'a'", "circle"]),
        ((W, {"a": 2, "b": 2}, {"a": ("b",), "b": ("a",)}), ["circle"]),
        (({**W, "v": Axes("b")}, {"a": 2, "b": 2}, {"b": ("a",)}), ["['v']", "'b'", "['a']"]),
        (({**W, "v": Axes("a", "b", "a")}, {"a": 2, "b": 2}, {"b": ("a",)}), ["['v']", "twice"]),
        (({**W, "v": Axes(Sum(("a", "b"), ("b", 2)))}, {"a": 2, "b": 2}, {"b": ("a",)}), ["['v']", "'b'"]),
        (([Axes("a", "b", "c")], {"a": 2, "b": 2, "c": 2}, {"c": ("b",), "b": ("a",)}), ["'c'", "add ['a']"]),
    ],
)
def test_contradictory_specs_are_named(arguments, names):
    axes, sizes, *rest = arguments
    with pytest.raises(SpecError) as error:
        PermutationSpec(axes, sizes, **dict(zip(("batch", "fixed"), rest, strict=False)))
    for name in names:
        assert name in str(error.value)


def test_params_that_do_not_fit_are_named():
    net = mlp(3, (4, 5), 2)
    params = drawn.started(net.init)
    net.spec.check(params)

    def changed(layer, leaf, value):
        layers = {**params["params"], layer: {**params["params"][layer], leaf: value}}
        return {"params": layers}

    cases = [
        (changed("dense_1", "kernel", np.zeros((4, 6))), ["['dense_1']['kernel']", "h1 = 5", "found 6", "(4, 6)"]),
        (changed("dense_1", "kernel", np.zeros(5)), ["['dense_1']['kernel']", "2 dimensions", "(5,)"]),
        (changed("dense_1", "extra", np.zeros(5)), ["['dense_1']['extra']", "unexpected"]),
        ({"params": {k: v for k, v in params["params"].items() if k != "dense_0"}}, ["['dense_0']['bias']", "missing"]),
        (drawn.started(mlp(3, (4, 5, 5), 2).init), ["['dense_3']['bias']", "unexpected"]),
        (tuple(jax.tree.leaves(params)), ["structure"]),
    ]
    for bad, names in cases:
        with pytest.raises(SpecError) as error:
            net.spec.check(bad, "b")
        assert str(error.value).startswith("b")
        for name in names:
            assert name in str(error.value)


@pytest.mark.parametrize("other", [mlp(4, (4, 5), 2), mlp(3, (4, 5), 1), mlp(1, (4, 5), 2)])
def test_pairs_of_other_shapes_are_named(other):
    net = mlp(3, (4, 5), 2)
    a, b = (drawn.started(one.init) for one in (net, other))
    net.spec.check(b)
    net.spec.check_pair(a, a)
    for first, second in ((a, b), (b, a)):
        with pytest.raises(SpecError, match=r"a\['params'\].* is \(.*\) and b\['params'\].* is \(.*same inputs"):
            net.spec.check_pair(first, second)
        with pytest.raises(SpecError, match="same inputs"):
            jax.jit(net.spec.check_pair)(first, second)
    with pytest.raises(SpecError, match=r"^b\['params'\]\['dense_0'\]\['bias'\].*same widths"):
        net.spec.check_pair(a, drawn.started(mlp(3, (6, 5), 2).init))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        "null",
        "[" * 100_000,
        None,
        '{"axes": "a", "sizes": {"a": 2}, "batch": {}}',
        *(
            json.dumps({"axes": "a", "sizes": {"a": 2}, "batch": {}, "fixed": {}} | change)
            for change in (
                {"axes": {}},
                {"axes": ["a"]},
                {"axes": 3},
                {"axes": None},
                {"axes": {"set": ["a"]}},
                {"axes": {"dict": ["a"]}},
                {"axes": {"list": "a"}},
                {"axes": {"tuple": {"x": "a"}}},
                {"axes": {"dict": {"x": "a"}, "list": ["a"]}},
                {"axes": {"dict": {"x": {"nope": "a"}}}},
                {"axes": "a*"},
                {"axes": "9" * 5000},
                {"sizes": ["a"]},
                {"sizes": {"a": "2"}},
                {"sizes": {"a": 2.5}},
                {"sizes": {"a": True}},
                {"sizes": {"a": None}},
                {"batch": [1]},
                {"batch": {"a": "h"}},
                {"batch": {"a": [1]}},
                {"batch": {"a": 1}},
                {"fixed": 1},
                {"fixed": {"x": []}},
                {"sizes": {"a": 2, "\u00b2": 2}},
            )
        ),
    ],
)
def test_broken_json_is_a_spec_error(text):
    with pytest.raises(SpecError):
        PermutationSpec.from_json(text)
