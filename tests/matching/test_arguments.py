"""Data of every kind, in every type, and one clear error for every argument that cannot be meant."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign import Axes, Data, PermutationSpec, Task, chain, evaluation
from dwalign.deepalign import deep_align
from dwalign.matching import (
    activation_matching,
    known_methods,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, compose, identity, inverse, permute
from tests import drawn
from tests.nights import long

NET, SHALLOW = mlp(6, (5, 4), 3), mlp(6, (5,), 3)
A, B = (drawn.weights(NET.params, seed) for seed in (0, 1))
# where every method is compiled, one hidden layer will do
ONE, TWO = (drawn.weights(SHALLOW.params, seed) for seed in (0, 1))
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((32, 6)).astype(np.float32), RNG.integers(0, 3, 32)
SHORT = {
    method.name: method.using(**options)
    for method, options in {
        straight_through: {"iterations": 2, "images": 8},
        sinkhorn_rebasin: {"iterations": 2, "images": 8},
        refine: {"steps": 2},
        activation_matching: {},
    }.items()
}
KEY = jax.random.key(0)


def masked(params, inputs):
    """The network reads its inputs from a dictionary, with a mask and one number that all examples share."""
    return SHALLOW.apply(params, inputs["scale"] * inputs["x"] * inputs["mask"][..., None])


MASKED = {"x": 2 * X, "mask": np.ones(32, np.float32), "scale": 0.5}
READS_TREES = dwalign.network(masked, ONE, MASKED)


# methods that descend read inputs and weights by the same functions
@pytest.mark.parametrize("name", ["refine", "activation_matching", *long("straight_through", "sinkhorn")])
def test_inputs_are_trees_of_numpy_arrays(name):
    """The same result as for the one array that they stand for."""
    method = SHORT[name]
    assert READS_TREES.spec == SHALLOW.spec
    plain = method(SHALLOW, ONE, TWO, key=KEY, data=Data(jnp.asarray(X), jnp.asarray(Y)))
    found = method(READS_TREES, ONE, TWO, key=KEY, data=Data(MASKED, Y))
    chex.assert_trees_all_equal(found.perms, plain.perms)
    chex.assert_trees_all_close(found[1:], plain[1:], rtol=1e-5, atol=1e-5)


def test_inputs_may_be_constants_of_a_program_or_arguments_of_it():
    many = jax.tree.map(lambda x, y: np.stack([x, y]), (ONE, TWO), (TWO, ONE))
    found = SHORT["refine"](READS_TREES, ONE, TWO, key=KEY, data=Data(MASKED, Y))

    @jax.jit
    def both(many, data):
        run = lambda data: jax.vmap(lambda pair: SHORT["refine"](READS_TREES, *pair, key=KEY, data=data))(many)
        return run(Data(MASKED, Y)), run(data)

    closed, given = both(many, Data(MASKED, Y))
    for other in (closed, given):
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], other.perms), found.perms)


def test_curves_read_trees_of_numpy_arrays():
    found = evaluation.curve(READS_TREES, ONE, TWO, Data(MASKED, Y), points=3, chunk=7)
    chex.assert_trees_all_close(found, evaluation.curve(SHALLOW, ONE, TWO, Data(X, Y), points=3), rtol=1e-5)


def test_networks_of_several_inputs_take_a_tuple_of_them():
    def program(params, x, adjacency, scale):
        return SHALLOW.apply(params, scale[:, None] * jnp.einsum("mij,mj->mi", adjacency, x))

    eyes, halves = np.broadcast_to(np.eye(6, dtype=np.float32), (32, 6, 6)), np.full(32, 0.5, np.float32)
    net = dwalign.network(program, ONE, X, eyes, halves)
    found = dwalign.align(net, ONE, TWO, "activation_matching", data=Data((2 * X, eyes, halves)))
    chex.assert_trees_all_equal(found.perms, activation_matching(SHALLOW, ONE, TWO, data=Data(X)).perms)


CAST = {
    "x64": lambda leaf: leaf,
    "float64": lambda leaf: leaf.astype(np.float64),
    "bfloat16 and float16": lambda leaf: leaf.astype(jnp.bfloat16 if leaf.ndim > 1 else np.float16),
}


ONE_TYPE = [("straight_through", "float64"), ("sinkhorn", "bfloat16 and float16")]
OTHERS = [pair for pair in itertools.product(("straight_through", "sinkhorn"), CAST) if pair not in ONE_TYPE]


@pytest.mark.parametrize(
    ("name", "kind"), [*itertools.product(("refine", "activation_matching"), CAST), *ONE_TYPE, *long(*OTHERS)]
)
def test_weights_of_every_type(name, kind):
    with jax.enable_x64(kind in ("x64", "float64")):
        a, b = (jax.tree.map(CAST[kind], params) for params in (ONE, TWO))
        found = SHORT[name](SHALLOW, a, b, key=KEY, data=Data(X, Y))
        assert {perm.dtype for perm in found.perms.values()} == {jnp.dtype("int32")}
        chex.assert_tree_all_finite(found)
        if found.history is not None:
            assert found.history.dtype == jnp.float32


def test_permutations_have_one_type():
    with jax.enable_x64(True):
        one = drawn.perms(NET.spec)
        wide = {g: np.asarray(p, np.int64) for g, p in one.items()}
        started = weight_matching(NET.spec, A, B, key=KEY, start=Alignment(wide), restarts=2).perms
        for perms in (identity(NET.spec), one, inverse(NET.spec, wide), compose(NET.spec, wide, wide), started):
            assert {perm.dtype for perm in perms.values()} == {np.dtype("int32")}


@pytest.mark.parametrize("method", ["sinkhorn", "refine"])
def test_the_better_of_start_and_end_is_returned(method):
    """A perfect start stays, whatever steps that are far too long do to the scores."""
    perms = drawn.perms(NET.spec, 1)
    b = permute(NET.spec, A, perms)
    data = Data(X, np.asarray(NET.apply(A, X)))
    perfect = Alignment(inverse(NET.spec, perms))
    found = SHORT[method](NET, A, b, key=KEY, data=data, task=dwalign.REGRESSION, start=perfect, learning_rate=50.0)
    chex.assert_trees_all_equal(found.perms, perfect.perms)


# other tests declare methods of their own
OURS = [name for name, one in known_methods().items() if "dwalign" in one.function.__module__ and one.asks != "aligner"]
BARE = {"w": np.ones((6, 3), np.float32)}
NOTHING = dwalign.Network(lambda params, x: x @ params["w"], PermutationSpec({"w": Axes(None, None)}, {}), BARE, X[:1])


@pytest.mark.parametrize("method", OURS)
def test_a_spec_without_groups_has_the_empty_alignment(method):
    method = SHORT.get(method, known_methods()[method])
    a, b = BARE, {"w": np.zeros((6, 3), np.float32)}
    assert dwalign.align(NOTHING, a, b, method, data=Data(X, Y)).perms == {}
    assert np.all(dwalign.merge(NOTHING, a, b, method, data=Data(X, Y))["w"] == 0.5)


def align(method="weight_matching", network=NET, a=A, b=B, **options):
    return functools.partial(dwalign.align, network, a, b, method, **options)


def descends(inputs=X, labels=Y, method="refine", **options):
    return align(method, data=Data(inputs, labels), **options)


BAD = X.copy()
BAD[3, 2] = np.nan
FOUND = Alignment(identity(NET.spec))
COPIED = {"h0": np.array([0, 0, 1, 2, 3])}
SPEC = NET.spec
LONE = drawn.named(0, up=(5, 6), down=(3, 5))
# its example was taken for six
ALONE = dwalign.network(lambda params, x: params["down"] @ jax.nn.relu(params["up"] @ x), LONE, X[0])
ERRORS = {
    # the first argument
    "a network in permute": (lambda: dwalign.permute(NET, B, {}), "permute: spec must .*the .spec of this Network"),
    "a network in distance": (lambda: dwalign.distance(NET, A, B), "spec must .*the .spec of this Network"),
    "params first": (align(network=A, a=SPEC), r"must be a Network or a .*got dict; the order is \(network, a, b\)"),
    "params first in distance": (lambda: dwalign.distance(A, SPEC, B), r"the order is \(spec, a, b\)"),
    "a function first": (align(network=NET.apply), r"got a function.*dwalign\.network\(apply, params, inputs\) makes"),
    "a spec for a network": (align("refine", SPEC, data=Data(X, Y)), r"refine: needs the network.*dwalign\.network\("),
    "a spec for a network, later": (align("naive+refine", SPEC, data=Data(X, Y)), "refine: needs the network"),
    "a spec to judge": (lambda: evaluation.curve(SPEC, A, B, Data(X, Y)), "curve: needs the network"),
    "swapped arguments": (lambda: dwalign.align(A, B, NET), "must be a Network or a PermutationSpec, got dict"),
    "a network for params": (align(a=NET, b=B), "a must be parameters of the structure of the spec, got a Network"),
    # the method and its options
    "a wrong name": (align("weight_maching"), "did you mean 'weight_matching'"),
    "no name": (align(""), "method: must be one of .*naive.*joined by"),
    "a function": (align(naive.function), "must be a method or its name.*got naive"),
    "a wrong name later": (align("weight_matching+magic"), "must be one of .*got 'magic'"),
    "a count that nobody takes": (align("naive@3"), "'naive@3' must be 'naive' alone$"),
    "a word for a count": (align("refine@many"), "'refine@many' must be 'refine' alone, or with a number"),
    "a wrong option": (align(restart=3), r"weight_matching: takes the options .*'restarts'.*got 'restart'"),
    "an option that nobody takes": (align("naive", steps=3), "naive: takes the options .*got 'steps'"),
    "apply as an option": (descends(apply=NET.apply), r"got 'apply'; what a network computes is told by dwalign\.net"),
    "capture as an option": (align("activation_matching", capture=NET.capture), r"got 'capture'; what a network comp"),
    "a batch": (align("refine", batch=(X, Y)), r"got 'batch'; pass data=Data\(inputs, labels\)"),
    "a loss": (descends(loss=lambda o, y: 0.0), r"got 'loss'; pass task=Task\(loss, hits\)"),
    "options in dictionaries": (align("naive+refine", refine={"steps": 2}), r"options of the parts.*chain\(weight_mat"),
    "options of a chain": (align("naive+refine", steps=2), r"options of the parts of 'naive\+refine'.*found \['steps'"),
    "a chain of names": (lambda: chain("naive", "refine"), r"chain: takes methods, such as chain\(weight_matching, re"),
    "naive later": (align("weight_matching+naive"), "naive cannot start from another method and must come first"),
    "features later": (align("naive+features"), "features cannot start from another"),
    "no aligner": (align("deep_align"), "deep_align: needs the option 'aligner'"),
    "no aligner in a chain": (align("deep_align+refine", data=Data(X, Y)), "deep_align: needs the option 'aligner'"),
    "a folder for an aligner": (align("deep_align", aligner="runs/best"), r"load_aligner\(folder\)"),
    "a folder, called itself": (lambda: deep_align(NET, A, B, aligner="runs/best"), r"load_aligner\(folder\)"),
    "a number for a key": (align(key=0), r"key must be a random key, jax.random.key\(0\), got int"),
    "negative iterations": (descends(method="sinkhorn", iterations=-1), "iterations must be .*at least 0; got -1"),
    "half an iteration": (descends(steps=1.5), "steps must be a whole number of at least 0; got 1.5"),
    "no restarts": (align(restarts=0), "restarts must be a whole number of at least 1; got 0"),
    "no temperature": (descends(method="sinkhorn", temperature=0), "temperature must be .*positive number; got 0"),
    "an infinite rate": (descends(learning_rate=np.inf), "learning_rate must be a finite number; got inf"),
    # permutations
    "an alignment for perms": (lambda: dwalign.permute(SPEC, B, FOUND), "got an Alignment; pass its .perms"),
    "an alignment in distance": (lambda: dwalign.distance(SPEC, A, B, perms=FOUND), "Alignment; pass its .perms"),
    "perms that copy a unit": (lambda: dwalign.permute(SPEC, B, COPIED), r"\['h0'\] must be a permut.*the first 4"),
    "perms beyond the end": (lambda: dwalign.inverse(SPEC, {"h1": jnp.array([1, 2, 3, 4])}), "each of 0 to 3 once"),
    "perms counted from behind": (lambda: dwalign.permute(SPEC, B, {"h1": np.arange(-4, 0)}), "each of 0 to 3 once"),
    "matrices of another shape": (
        lambda: dwalign.permute(SPEC, B, {"h0": np.ones((4, 5))}),
        r"must have shape \(5,\) \(integers\) or \(5, 5\) \(floats\), found float.* \(4, 5\)",
    ),
    "a start that copies a unit": (
        lambda: weight_matching(NET, A, B, start=Alignment({**FOUND.perms, **COPIED})),
        "start: .*permutation",
    ),
    "a start of another spec": (
        lambda: weight_matching(NET, A, B, start=Alignment({"h0": np.arange(5)})),
        r"every group.*none for \['h1'\]",
    ),
    "a start that is perms": (lambda: weight_matching(NET, A, B, start=FOUND.perms), "start must be an .*got dict"),
    "a start for naive": (lambda: naive(NET, A, B, start=FOUND), "naive: cannot start from another method"),
    # data and task
    "no data": (align("refine"), r"refine: needs data, Data\(inputs, labels\), got none; pass data="),
    "no inputs": (align("activation_matching"), r"activation_matching: needs data, Data\(inputs\), got none"),
    "no labels": (descends(labels=None), r"refine: needs labels, Data\(inputs, labels\), but these data have none"),
    "inputs alone": (align("refine", data=X), r"must be Data\(inputs \[m, ...\], labels \[m\]\) or .*got ndarray"),
    "inputs alone in a tuple": (align("refine", data=(X,)), "got tuple of 1"),
    "no examples": (descends(X[:0], Y[:0]), "equally many examples and at least one"),
    "unequally many": (descends(labels=Y[:-1]), r"inputs \(32, 6\), labels \(31,\)"),
    "an array that examples share": (descends({"x": X, "graph": X[:6]}), r"inputs\['graph'\] \(6, 6\).*function"),
    "no array of inputs": (descends(1.0), "equally many"),
    "words": (descends(["a"]), r"inputs\[0\] must be an array of numbers, found str"),
    "data with NaN": (descends(BAD), "inputs holds 1 NaN"),
    "labels beyond the classes": (descends(labels=Y + 1), "classes of the outputs, 0 to 2, found 1 to 3"),
    "labels below the classes": (descends(X, jnp.asarray(Y) - 1, "straight_through"), "0 to 2, found -1 to 1"),
    "labels one hot": (descends(labels=np.eye(3)[Y]), r"integer labels of shape \(32,\).*pass task=Task"),
    "labels of a curve": (lambda: evaluation.curve(NET, A, B, Data(X, Y + 1)), "curve: labels must be classes"),
    "a program of one example": (
        align("activation_matching", ALONE, LONE, LONE, data=Data(X)),
        r"\(32, 6\), it raised .*; the first axis of inputs counts examples: make the network of jax.vmap",
    ),
    "one example": (
        align("weight_matching", ALONE, LONE, LONE),
        r"\(1,\), it raised .*; the first axis of inputs counts examples",
    ),
    "a name for a task": (descends(task="mse"), r"task must be a Task\(loss, hits\) of two functions, got 'mse'"),
    "a name for a loss": (descends(task=Task("mse")), r"task must be a Task.*got Task\('mse'"),
    "a loss of each example": (descends(task=Task(lambda o, y: o[:, 0])), r"must be a scalar, found \(32,\)"),
    "capture for apply": (
        align("refine", dwalign.Network(NET.capture, SPEC, NET.params, X[:1]), data=Data(X, Y)),
        "apply must give the outputs alone.*pass network.apply",
    ),
    "apply for capture": (
        align("activation_matching", dwalign.Network(NET.apply, SPEC, NET.params, X[:1], NET.apply), data=Data(X)),
        r"activation_matching: capture must give \(outputs, Units\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_do(case):
    run, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        run()


def test_errors_of_arguments_come_before_the_certificate():
    axes = jax.tree.map(lambda axes: Axes(None) if axes == Axes("h0") else axes, NET.spec.axes)
    wrong = dwalign.Network(NET.apply, PermutationSpec(axes, NET.spec.sizes), NET.params, NET.example)
    for options, message in (({"steps": -1}, "steps must be"), ({"task": 3}, "task must be"), ({}, "group 'h0'")):
        with pytest.raises(ValueError, match=message):
            dwalign.align(wrong, A, B, "refine", data=Data(X, Y), **options)
