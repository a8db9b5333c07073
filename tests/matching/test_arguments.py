"""Data of every kind, in every type, and one clear error for every argument that cannot be meant."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign import apply as door
from dwalign import evaluation
from dwalign.deepalign import deep_align
from dwalign.matching import activation_matching, refine, sinkhorn_rebasin, straight_through, weight_matching
from dwalign.networks import mlp
from dwalign.symmetry import Alignment, Axes, PermutationSpec, compose, identity, inverse, permute, random_perms

NET = mlp(6, (5, 4), 3)
A, B = (jax.tree.map(np.asarray, NET.init(jax.random.key(seed))) for seed in (0, 1))
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((32, 6)).astype(np.float32), RNG.integers(0, 3, 32)
SHORT = {
    straight_through: {"iterations": 2, "images": 8},
    sinkhorn_rebasin: {"iterations": 2, "images": 8},
    refine: {"steps": 2},
    activation_matching: {},
}
KEY = jax.random.key(0)


def masked(params, inputs):
    """The network reads its inputs from a dictionary, with a mask and one number that all examples share."""
    return NET.apply(params, inputs["scale"] * inputs["x"] * inputs["mask"][..., None])


def runs(method, a=A, b=B, **on):
    return method(NET.spec, a, b, key=KEY, **SHORT[method], **on)


@pytest.mark.parametrize("method", SHORT)
def test_inputs_are_trees_of_numpy_arrays(method):
    """The same result as for the one array that they stand for, also where all is traced."""
    inputs = {"x": 2 * X, "mask": np.ones(32, np.float32), "scale": 0.5}
    plain = runs(method, apply=NET.apply, batch=(jnp.asarray(X), jnp.asarray(Y)))
    found = runs(method, apply=masked, batch=(inputs, Y))
    chex.assert_trees_all_equal(found.perms, plain.perms)
    chex.assert_trees_all_close(found[1:3], plain[1:3], rtol=1e-5, atol=1e-5)
    many = jax.tree.map(lambda x, y: np.stack([x, y]), (A, B), (B, A))
    # the data are constants of the program, or arguments of it
    closed = jax.jit(jax.vmap(lambda pair: runs(method, *pair, apply=masked, batch=(inputs, Y))))(many)
    given = jax.jit(lambda a, b, batch: runs(method, a, b, apply=masked, batch=batch))(A, B, (inputs, Y))
    for other in (jax.tree.map(lambda leaf: leaf[0], closed), given):
        chex.assert_trees_all_equal(other.perms, found.perms)


def test_curves_read_trees_of_numpy_arrays():
    inputs = {"x": 2 * X, "mask": np.ones(32, np.float32), "scale": 0.5}
    found = evaluation.curve(masked, A, B, (inputs, Y), points=3, chunk=7)
    chex.assert_trees_all_close(found, evaluation.curve(NET.apply, A, B, (X, Y), points=3), rtol=1e-5)


def test_align_certifies_programs_of_several_inputs():
    calls = []

    def program(params, x, adjacency, scale):
        calls.append(x.shape)
        return NET.apply(params, scale * (adjacency @ x))

    for _ in range(2):
        door.align(NET.spec, A, B, program=(program, X[:9, None], np.ones((1, 1), np.float32), 0.5))
        traced = len(calls)
    door.align(NET.spec, A, B, program=(program, X[:9, None], np.ones((1, 1), np.float32), 0.5))
    assert calls and len(calls) == traced
    wrong = PermutationSpec(
        jax.tree.map(lambda axes: Axes(None) if axes == Axes("h0") else axes, NET.spec.axes), NET.spec.sizes
    )
    with pytest.raises(ValueError, match="group 'h0'"):
        door.align(wrong, A, B, program=(program, X[:9, None], np.ones((1, 1), np.float32), 0.5))


CAST = {
    "x64": lambda leaf: leaf,
    "float64": lambda leaf: leaf.astype(np.float64),
    "float16": lambda leaf: leaf.astype(np.float16),
    "bfloat16 and float32": lambda leaf: leaf.astype(jnp.bfloat16) if leaf.ndim > 1 else leaf,
}


@pytest.mark.parametrize("kind", CAST)
@pytest.mark.parametrize("method", SHORT)
def test_weights_of_every_type(method, kind):
    with jax.enable_x64(kind in ("x64", "float64")):
        a, b = (jax.tree.map(CAST[kind], params) for params in (A, B))
        found = runs(method, a, b, apply=NET.apply, batch=(X, Y))
        assert {perm.dtype for perm in found.perms.values()} == {jnp.dtype("int32")}
        chex.assert_tree_all_finite(found)
        if found.history is not None:
            assert found.history.dtype == jnp.float32


def test_permutations_have_one_type():
    with jax.enable_x64(True):
        one = random_perms(NET.spec, KEY)
        wide = {g: np.asarray(p, np.int64) for g, p in one.items()}
        started = weight_matching(NET.spec, A, B, key=KEY, start=Alignment(wide), restarts=2).perms
        for perms in (identity(NET.spec), one, inverse(NET.spec, wide), compose(NET.spec, wide, wide), started):
            assert {perm.dtype for perm in perms.values()} == {np.dtype("int32")}


@pytest.mark.parametrize("method", [sinkhorn_rebasin, refine])
def test_the_better_of_start_and_end_is_returned(method):
    """A perfect start stays, whatever steps that are far too long do to the scores."""
    perms = random_perms(NET.spec, jax.random.key(1))
    b = permute(NET.spec, A, perms)
    batch, loss = (X, NET.apply(A, X)), lambda outputs, labels: jnp.mean((outputs - labels) ** 2)
    perfect = Alignment(inverse(NET.spec, perms))
    options = SHORT[method] | {"learning_rate": 50.0, "loss": loss}
    found = method(NET.spec, A, b, key=KEY, apply=NET.apply, batch=batch, start=perfect, **options)
    chex.assert_trees_all_equal(found.perms, perfect.perms)


NOTHING = PermutationSpec({"w": Axes(None, None)}, {})


@pytest.mark.parametrize("method", [name for name in door.METHODS if name != "deep_align"])
def test_a_spec_without_groups_has_the_empty_alignment(method):
    apply = lambda params, x: x @ params["w"]
    a, b = {"w": np.ones((6, 3), np.float32)}, {"w": np.zeros((6, 3), np.float32)}
    run = {"activation_matching": activation_matching, "activation_matching_correlation": activation_matching}
    options = SHORT.get(run.get(method, door.METHODS[method]))
    data = {} if options is None else {"apply": apply, "batch": (X, Y), **options}
    assert door.align(NOTHING, a, b, method=method, **data).perms == {}
    assert np.all(door.merge(NOTHING, a, b, method=method, **data)["w"] == 0.5)


def aligned(**options):
    return functools.partial(door.align, NET.spec, A, B, **options)


def descends(batch=(X, Y), method="refine", **options):
    return aligned(method=method, **{"apply": NET.apply, **options}, batch=batch)


BAD = X.copy()
BAD[3, 2] = np.nan
FOUND = Alignment(identity(NET.spec))
COPIED = {"h0": np.array([0, 0, 1, 2, 3])}
ERRORS = {
    "a network for its spec": (lambda: door.align(NET, A, B), "align: spec must be a .*pass the .spec of this Network"),
    "a network for its spec in permute": (lambda: door.permute(NET, B, {}), "permute: spec must .*the .spec of this"),
    "params for the spec": (lambda: door.align(A, NET.spec, B), r"got dict; the order is \(spec, a, b\)"),
    "params for the spec in distance": (lambda: door.distance(A, NET.spec, B), r"the order is \(spec, a, b\)"),
    "a function for a name": (aligned(method=refine), "method must be a name.*got refine; pass 'refine'"),
    "a partial for a name": (
        aligned(method=door.METHODS["activation_matching_correlation"]),
        "pass 'activation_matching_correlation'",
    ),
    "a number for a key": (aligned(key=0), r"key must be a random key, jax.random.key\(0\).*got int"),
    "a program alone": (aligned(program=NET.apply), r"program must be a tuple \(apply, \*inputs\), got function"),
    "an alignment for perms": (lambda: door.permute(NET.spec, B, FOUND), "got an Alignment; pass its .perms"),
    "an alignment in distance": (lambda: door.distance(NET.spec, A, B, perms=FOUND), "Alignment; pass its .perms"),
    "perms that copy a unit": (lambda: door.permute(NET.spec, B, COPIED), r"\['h0'\] must be a permut.*the first 4"),
    "perms beyond the end": (lambda: door.inverse(NET.spec, {"h1": jnp.array([1, 2, 3, 4])}), "each of 0 to 3 once"),
    "perms counted from behind": (lambda: door.permute(NET.spec, B, {"h1": np.arange(-4, 0)}), "each of 0 to 3 once"),
    "matrices of another shape": (
        lambda: door.permute(NET.spec, B, {"h0": np.ones((4, 5))}),
        r"must have shape \(5,\) \(integers\) or \(5, 5\) \(floats\), found float.* \(4, 5\)",
    ),
    "a start that copies a unit": (aligned(start=Alignment({**FOUND.perms, **COPIED})), "start: .*permutation"),
    "a start of another spec": (aligned(start=Alignment({"h0": np.arange(5)})), r"every group.*none for \['h1'\]"),
    "a start that is perms": (descends(start=FOUND.perms), "start must be an Alignment.*got dict"),
    "a folder for an aligner": (aligned(method="deep_align", aligner="runs/best"), r"load_aligner\(folder\)"),
    "a folder for an aligner, called itself": (
        lambda: deep_align(NET.spec, A, B, aligner="runs/best"),
        r"load_aligner\(folder\)",
    ),
    "negative iterations": (
        descends(method="sinkhorn", iterations=-1),
        "iterations must be .*at least 0; got -1",
    ),
    "half an iteration": (descends(steps=1.5), "steps must be a whole number of at least 0; got 1.5"),
    "no restarts": (aligned(restarts=0), "restarts must be a whole number of at least 1; got 0"),
    "no temperature": (
        descends(method="sinkhorn", temperature=0),
        "temperature must be .*positive number; got 0",
    ),
    "an infinite rate": (descends(learning_rate=np.inf), "learning_rate must be a finite number; got inf"),
    "a name for a loss": (descends(loss="mse"), "loss must be a function .*got 'mse'"),
    "a loss of each example": (descends(loss=lambda o, y: o[:, 0]), r"must be a scalar, found \(32,\)"),
    "inputs alone": (descends(X), r"must be a pair \(inputs \[m, ...\], labels \[m\]\).*got ndarray"),
    "inputs alone in a tuple": (descends((X,)), "must be a pair.*got tuple of 1"),
    "no examples": (descends((X[:0], Y[:0])), "equally many examples and at least one"),
    "unequally many": (descends((X, Y[:-1])), r"inputs \(32, 6\), labels \(31,\)"),
    "an array that examples share": (descends(({"x": X, "graph": X[:6]}, Y)), r"inputs\['graph'\] \(6, 6\).*function"),
    "no array of inputs": (descends((1.0, Y)), "equally many"),
    "words": (descends((["a"], Y)), r"inputs\[0\] must be an array of numbers, found str"),
    "data with NaN": (descends((BAD, Y)), "inputs holds 1 NaN"),
    "labels beyond the classes": (descends((X, Y + 1)), "classes of the outputs, 0 to 2, found 1 to 3"),
    "labels below the classes": (descends((X, jnp.asarray(Y) - 1), "straight_through"), "0 to 2, found -1 to 1"),
    "labels one hot": (descends((X, np.eye(3)[Y])), r"integer labels of shape \(32,\).*pass loss="),
    "labels of a curve": (lambda: evaluation.curve(NET.apply, A, B, (X, Y + 1)), "curve: labels must be classes"),
    "a network for apply": (descends(apply=NET), "apply must be the function.*got Network"),
    "capture for apply": (descends(apply=NET.capture), "apply must give the outputs alone.*pass network.apply"),
    "capture for apply, not certified": (
        descends(apply=NET.capture, certified=False),
        "refine: apply must give",
    ),
    "apply for capture": (
        aligned(method="activation_matching", capture=NET.apply, batch=(X, Y)),
        "capture must give .*is passed as apply",
    ),
    "apply for capture, not certified": (
        aligned(method="activation_matching", capture=NET.apply, batch=(X, Y), certified=False),
        "activation_matching: capture must give .*is passed as apply",
    ),
    "neither apply nor capture": (aligned(method="activation_matching", batch=(X, Y)), "exactly one .* got neither"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_to_do(case):
    run, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        run()


def test_errors_of_arguments_come_before_the_certificate():
    wrong = PermutationSpec(
        jax.tree.map(lambda axes: Axes(None) if axes == Axes("h0") else axes, NET.spec.axes), NET.spec.sizes
    )
    for options, message in (({"steps": -1}, "steps must be"), ({"loss": 3}, "loss must be"), ({}, "group 'h0'")):
        with pytest.raises(ValueError, match=message):
            door.align(wrong, A, B, method="refine", apply=NET.apply, batch=(X, Y), **options)
