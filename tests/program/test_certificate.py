"""The certificate: right specs pass, wrong ones are named, missed symmetries are found."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import CertificateError, accepts, certify, drawn_elements, examine, infer_spec, trials
from dwalign.program.domain import positive_arguments
from dwalign.symmetry import Axes, PermutationSpec, SpecError
from tests import drawn
from tests.networks.declared import CASES


def ones(*shape):
    return np.ones(shape, np.float32)


X = drawn.normal(3, 5)
PARAMS = {"up": ones(5, 9), "bias": 0 * ones(9), "down": ones(9, 2)}
SPEC = PermutationSpec({"bias": Axes("h"), "down": Axes("h", None), "up": Axes(None, "h")}, {"h": 9})


def apply(params, x):
    return jax.nn.relu(x @ params["up"] + params["bias"][None]) @ params["down"]


def test_a_right_spec_passes_and_misses_nothing():
    found = certify(SPEC, apply, PARAMS, X, complete=True)
    assert found.error < 1e-5 and found.missed == ()


@pytest.mark.parametrize("left_out", ["bias", "down", "up"])
def test_the_array_that_does_not_fit_is_named(left_out):
    axes = {**SPEC.axes, left_out: Axes(*(None,) * len(SPEC.axes[left_out].dims))}
    wrong = PermutationSpec(axes, {"h": 9})
    # zero biases and equal weights would pass if they were not disturbed
    with pytest.raises(CertificateError, match="group 'h'"):
        certify(wrong, apply, PARAMS, X)


def test_the_one_array_too_many_is_named():
    wrong = PermutationSpec({**SPEC.axes, "last": Axes("h")}, {"h": 9})
    params = {**PARAMS, "last": ones(9)}
    with pytest.raises(CertificateError, match=r"must not be on \['last'\]"):
        certify(wrong, lambda p, x: jnp.cumsum(apply(p, x) @ jnp.ones((2, 9)) * p["last"][None], -1), params, X)


def test_a_symmetry_that_a_spec_misses_is_reported_where_the_program_shows_it():
    # h + (h reversed) is the same for every exchange of mirrored pairs only; h + 0 * reversed for all of them
    hidden = lambda p, x: apply(p, x) + 0 * jnp.sum(jnp.cumsum(x @ p["up"], -1), -1, keepdims=True)
    spec = infer_spec(hidden, PARAMS, X)
    assert not spec.sizes
    missed = certify(spec, hidden, PARAMS, X, complete=True).missed
    assert [note.size for note in missed] == [9] and "cumsum" in missed[0].why
    assert certify(spec, hidden, PARAMS, X, complete=True, moderate=10).missed == ()


def test_what_a_spec_leaves_out_is_reported():
    nothing = PermutationSpec({name: Axes(*(None,) * leaf.ndim) for name, leaf in PARAMS.items()}, {})
    missed = certify(nothing, apply, PARAMS, X, complete=True).missed
    assert {(note.path, note.dimension) for note in missed} == {("['bias']", 0), ("['down']", 0), ("['up']", 1)}
    assert all(note.size == 9 and "not declared" in note.why for note in missed)


def test_independent_heads_that_a_spec_ties_are_reported():
    heads = lambda p, x: jnp.einsum("bhq,hqo->bo", jnp.tanh(jnp.einsum("bi,ihq->bhq", x, p["up"])) ** 3, p["down"])
    params = {"up": ones(5, 4, 3), "down": ones(4, 3, 2)}
    tied = PermutationSpec({"up": Axes(None, "g", "h"), "down": Axes("g", "h", None)}, {"g": 4, "h": 3})
    missed = certify(tied, heads, params, X, complete=True).missed
    assert missed and all("4 independent copies" in note.why for note in missed)
    assert certify(infer_spec(heads, params, X), heads, params, X, complete=True).missed == ()


@pytest.mark.parametrize("beside", ["large", "imaginary"])
def test_a_wrong_output_is_seen_beside_others(beside):
    wrong = PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9})
    outputs = {
        "large": lambda p, x: (1e8 * jnp.ones(3), apply(p, x)),
        "imaginary": lambda p, x: jax.lax.complex(jnp.ones((3, 2)), apply(p, x)),
    }[beside]
    with pytest.raises(CertificateError, match="group 'h'"):
        certify(wrong, outputs, PARAMS, X)
    assert certify(SPEC, outputs, PARAMS, X).error < 1e-4


def test_keys_are_inputs_like_others():
    dropped = lambda p, x, key: apply(p, x) * jax.random.bernoulli(key, 0.5, (3, 1))
    spec = infer_spec(dropped, PARAMS, X, jax.random.key(0))
    assert certify(spec, dropped, PARAMS, X, jax.random.key(0)).error < 1e-5 and dict(spec.sizes) == {"h0": 9}


def test_abstract_shapes_are_filled():
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (PARAMS, X))
    assert certify(SPEC, apply, *abstract).error < 1e-4
    wrong = PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9})
    with pytest.raises(CertificateError):
        certify(wrong, apply, *abstract)


def test_batch_statistics_stay_positive():
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.relu(nn.BatchNorm(use_running_average=True)(nn.Dense(7)(x))))

    model = Model()
    params = drawn.started(model.init, X)
    assert certify(infer_spec(model.apply, params, X), model.apply, params, X, complete=True).missed == ()


def test_functions_that_cannot_be_certified():
    rng = np.random.default_rng(0)

    def noisy(params, x):
        noise = jax.pure_callback(lambda: rng.normal(size=()).astype(np.float32), jax.ShapeDtypeStruct((), jnp.float32))
        return apply(params, x) + noise

    with pytest.raises(CertificateError, match="pure function"):
        certify(SPEC, noisy, PARAMS, X)
    with pytest.raises(CertificateError, match="finite"):
        certify(SPEC, lambda p, x: apply(p, x) / 0, PARAMS, X)


# --- points inside the domain -----------------------------------------------------------------------------------------

COUNTS = np.random.default_rng(0).poisson(1.0, (3, 5)).astype(np.float32)
DOMAINS = {
    "logarithm of counts": (lambda p, x: apply(p, jnp.log(x + 1e-3)), PARAMS, COUNTS),
    "logarithm of nothing": (lambda p, x: apply(p, jnp.log(x + 1e-3)), PARAMS, np.zeros((3, 5), np.float32)),
    "root": (lambda p, x: apply(p, jnp.sqrt(x)), PARAMS, np.zeros((3, 5), np.float32)),
    "odds of probabilities": (lambda p, x: apply(p, jnp.log(x / (1 - x))), PARAMS, 0.5 + COUNTS / 20),
    "whole counts": (lambda p, x: apply(p, jnp.log1p(1.0 * x)), PARAMS, COUNTS.astype(np.int32)),
    "positive definite weights": (
        lambda p, x: apply(p, x @ jnp.linalg.cholesky(p["metric"])),
        {**PARAMS, "metric": np.float32(3.0 * np.eye(5) + 0.1)},
        X,
    ),
    "zero variances": (
        lambda p, x: apply(p, x) * jax.lax.rsqrt(p["variance"] + 1e-5)[None],
        {**PARAMS, "variance": np.float32([0.0, 1.0])},
        X,
    ),
    "a dead layer": (apply, {**PARAMS, "bias": -100 * ones(9)}, X),
    "a closed gate": (lambda p, x: x[:, :2] + p["gate"] * apply(p, x), {**PARAMS, "gate": np.zeros((), np.float32)}, X),
    "small factors": (
        lambda p, x: x[:, :2] + p["one"][None] * (x[:, :2] + p["two"][None] * apply(p, x)),
        {**PARAMS, "one": 1e-6 * ones(2), "two": 1e-6 * ones(2)},
        X,
    ),
    "masked outputs": (lambda p, x: jnp.where(jnp.arange(2)[None] > 0, apply(p, x), -1e30), PARAMS, X),
    "half precision that overflows": (
        lambda p, x: apply(jax.tree.map(lambda leaf: 3e4 * leaf.astype(jnp.float16), p), x.astype(jnp.float16)),
        PARAMS,
        X,
    ),
}


@pytest.mark.parametrize("name", DOMAINS)
@pytest.mark.parametrize("given", [True, False], ids=["given", "abstract"])
def test_a_right_spec_passes_and_a_wrong_one_does_not(name, given):
    function, params, x = DOMAINS[name]
    if not given and name == "positive definite weights":
        pytest.skip("no matrix drawn entry by entry is positive definite")
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    point = (params, x) if given else jax.tree.map(shape, (params, x))
    spec = infer_spec(function, *point)
    found = certify(spec, function, *point)
    assert found.error < 1e-12 and found.unseen == ()
    for path in ("bias", "down", "up"):
        wrong = PermutationSpec({**spec.axes, path: Axes(*(None,) * params[path].ndim)}, spec.sizes)
        with pytest.raises(CertificateError, match="group 'h0'"):
            certify(wrong, function, *point)


def test_what_a_root_is_taken_of_must_be_positive():
    def layers(weights, variances, scale, x):
        def body(h, row):
            w, v = row
            return jnp.tanh(h @ w) * jax.lax.rsqrt(v + 1e-5), jnp.sqrt(jnp.sum(h * h))

        h, norms = jax.lax.scan(body, x, (weights, variances))
        return h * jnp.log(2 * scale), norms

    closed = jax.make_jaxpr(layers)(ones(3, 9, 9), ones(3, 9), ones(9), ones(9))
    # squares are positive whatever they are of
    assert positive_arguments(closed) == {1, 2}


def test_variances_of_scanned_layers_are_drawn_positive():
    def layers(p, x):
        body = lambda h, row: (h + jnp.tanh(h @ row["w"]) * jax.lax.rsqrt(row["v"] + 1e-5)[None], None)
        return jax.lax.scan(body, x @ p["up"], p["layers"])[0] @ p["down"]

    stack = {"w": ones(3, 9, 9), "v": ones(3, 9)}
    params = {"up": PARAMS["up"], "down": PARAMS["down"], "layers": stack}
    abstract = jax.eval_shape(lambda: (params, X))
    assert certify(infer_spec(layers, *abstract), layers, *abstract).error < 1e-12


def test_tokens_stay_in_the_vocabulary():
    words = {**PARAMS, "embedding": np.eye(6, 5, dtype=np.float32)}
    read = lambda p, t: apply(p, jnp.take(p["embedding"], t, axis=0, mode="fill").mean(1))
    tokens = np.int32([[5, 1], [0, 2]])
    spec = infer_spec(read, words, tokens)
    assert dict(spec.sizes) == {"h0": 5, "h1": 9}
    assert certify(spec, read, words, tokens).unseen == certify(spec, read, words, 0 * tokens).unseen == ()


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_what_has_no_effect_is_named():
    """A bias before a softmax, and what is multiplied by nothing."""
    idle = lambda p, x: apply(p, x) + 0.0 * p["idle"].sum()
    spec = PermutationSpec({**SPEC.axes, "idle": Axes("h")}, {"h": 9})
    params = {**PARAMS, "idle": ones(9)}
    assert certify(spec, idle, params, X).unseen == ("['idle']",)
    # nor is anything behind it called free: its order could not be seen
    hidden = lambda p, x: apply(p, x) + 0.0 * jnp.cumsum(p["idle"]).sum()
    assert certify(infer_spec(hidden, params, X), hidden, params, X, complete=True).missed == ()


@pytest.mark.parametrize("size", [2, 3])
def test_few_units_are_told_from_a_cycle(size):
    """Neighbours on a ring are the same under every turn of it, but not under an exchange; of two, they are."""
    ring = lambda p, x: jnp.tanh(x @ p["w"]) * jnp.roll(jnp.tanh(x @ p["w"]), 1, -1) ** 2 @ jnp.ones((size, 1))
    spec = PermutationSpec({"w": Axes(None, "h")}, {"h": size})
    params = {"w": np.eye(5, size, dtype=np.float32)}
    if size == 2:
        certify(spec, ring, params, X)
    else:
        with pytest.raises(CertificateError):
            certify(spec, ring, params, X)


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_two_are_told_from_each_other(seed):
    """There is but one way to exchange two units, and every group has it."""
    three = lambda p, x: sum(jnp.tanh(x @ p["w"][k]) * p["s"][k][None] @ jnp.ones((2, 1)) for k in range(3))
    params = {"w": [ones(5, 2)] * 3, "s": [ones(2)] * 3}
    axes = lambda *names: {"w": [Axes(None, g) for g in "abc"], "s": [Axes(g) for g in names]}
    sizes = dict.fromkeys("abc", 2)
    certify(PermutationSpec(axes(*"abc"), sizes), three, params, X, key=jax.random.key(seed))
    for wrong in ("bac", "cba", "acb"):
        with pytest.raises(CertificateError):
            certify(PermutationSpec(axes(*wrong), sizes), three, params, X, key=jax.random.key(seed))


@pytest.mark.parametrize("seed", range(4))
def test_signs_of_few_units_are_turned(seed):
    params = drawn.named(up=(5, 2), down=(2, 2))
    apply = lambda p, x: jnp.tanh(x @ p["up"]) @ p["down"]
    wrong = PermutationSpec({"down": Axes("h^0", None), "up": Axes(None, "h")}, {"h": 2}, kinds={"h": "sign"})
    with pytest.raises(CertificateError, match="group 'h'"):
        certify(wrong, apply, params, X, key=jax.random.key(seed))


def test_independent_rows_of_two_are_told_from_tied_ones():
    heads = lambda p, x: jnp.tanh(jnp.einsum("bi,ihq->bhq", x, p["up"])).prod(1) @ p["down"]
    params = {"up": ones(5, 4, 2), "down": ones(2, 3)}
    free = PermutationSpec({"up": Axes(None, "g", "h"), "down": Axes("h", None)}, {"g": 4, "h": 2})
    certify(free, heads, params, X)
    with pytest.raises(SpecError):
        PermutationSpec({"up": Axes(None, "g", "h"), "down": Axes("h", None)}, {"g": 4, "h": 2}, batch={"h": ("g",)})
    wide = lambda p, x: jnp.tanh(jnp.einsum("bi,ihq->bhq", x, p["up"])) @ p["down"].sum(0)
    tied = PermutationSpec(
        {"up": Axes(None, "g", "h"), "down": Axes("g", "h", None)}, {"g": 4, "h": 2}, batch={"h": "g"}
    )
    with pytest.raises(CertificateError):
        certify(tied, lambda p, x: wide(p, x).sum(1), {**params, "down": ones(4, 2, 3)}, X)


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_types_of_the_program_leave_no_trace(dtype):
    short = jax.tree.map(lambda leaf: leaf.astype(dtype), (PARAMS, X))
    pinned = lambda p, x: jnp.dot(apply(p, x.astype(dtype)), jnp.ones((2, 2), dtype), preferred_element_type=dtype)
    assert certify(SPEC, pinned, *short).error < 1e-12
    with pytest.raises(CertificateError):
        certify(PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9}), pinned, *short)


def test_kernels_keep_their_types_and_a_tolerance_that_fits():
    """What is not seen into runs in the type it was written for; its rounding passes, a wrong spec does not."""
    square = lambda h: np.asarray(h, np.float32) @ np.asarray(h, np.float32).T

    def outside(p, x):
        h = jax.nn.relu(x @ p["up"] + p["bias"][None])
        return jax.pure_callback(square, jax.ShapeDtypeStruct((3, 3), jnp.float32), h) @ jnp.ones((3, 2))

    params = {"up": PARAMS["up"], "bias": PARAMS["bias"]}
    spec = PermutationSpec({"up": Axes(None, "h"), "bias": Axes("h")}, {"h": 9})
    assert 1e-6 < certify(spec, outside, params, X).tolerance < 1e-3
    assert certify(spec, outside, params, X, tolerance=0.01).tolerance == 0.01
    with pytest.raises(CertificateError):
        certify(PermutationSpec({"up": Axes(None, "h"), "bias": Axes(None)}, {"h": 9}), outside, params, X)


def test_what_rounding_alone_moves_passes():
    """The order of a sum shows in its last bits, and a steep function makes them large."""
    steep = lambda p, x: jnp.sin(1e8 * apply(p, x))
    found = certify(SPEC, steep, PARAMS, X)
    assert 1e-9 < found.error <= found.tolerance < 1e-3
    with pytest.raises(CertificateError):
        certify(PermutationSpec({**SPEC.axes, "bias": Axes(None)}, {"h": 9}), steep, PARAMS, X)


# --- mutations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg_batch", "lstm_fused", "transformer_rotary_grouped_scan"])
def test_no_group_may_be_left_out_on_any_array(name):
    """`experiments/mutations.py` asks this of 22 networks."""
    module, example, spec, _ = CASES[name]
    rng = np.random.default_rng(0)
    params = drawn.started(module.init, example)
    trial = next(trials(examine(module.apply, params, example), rng))
    assert accepts(spec, trial, drawn_elements(spec, rng))[0]
    for k, axes in enumerate(spec.leaves):
        for group in axes.names() & set(spec.sizes):
            gone = {h: spec.sizes[h] for h in spec.sizes if h == group or group in spec.batch.get(h, ())}
            leaves = [*spec.leaves[:k], axes.renamed(gone), *spec.leaves[k + 1 :]]
            wrong = PermutationSpec(spec.treedef.unflatten(leaves), spec.sizes, batch=spec.batch, fixed=spec.fixed)
            assert not accepts(wrong, trial, drawn_elements(wrong, rng))[0], (spec.paths[k], group)


# --- ties and parts ---------------------------------------------------------------------------------------------------


def test_units_that_a_spec_ties_without_need_are_reported():
    two = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"] + p["bias"][None]) @ p["c"]
    params = {"a": ones(5, 8), "b": ones(8, 8), "bias": 0 * ones(8), "c": ones(8, 3)}
    axes = {"a": Axes(None, "h"), "b": Axes("h", "h"), "bias": Axes("h"), "c": Axes("h", None)}
    missed = certify(PermutationSpec(axes, {"h": 8}), two, params, X, complete=True).missed
    (tie,) = [note for note in missed if "ties" in note.why]
    assert (tie.path, tie.dimension) == ("['b']", 1) and "['b'], ['bias'], ['c']" in tie.why
    untied = {"a": Axes(None, "g"), "b": Axes("g", "h"), "bias": Axes("h"), "c": Axes("h", None)}
    assert certify(PermutationSpec(untied, {"g": 8, "h": 8}), two, params, X, complete=True).missed == ()


def test_a_recurrent_state_is_one_group_on_both_axes():
    cell = lambda p: lambda h, x: (jnp.tanh(x @ p["in"] + h @ p["state"]), None)
    run = lambda p, x: jax.lax.scan(cell(p), jnp.zeros((3, 9)), x)[0] @ p["out"]
    params = {"in": PARAMS["up"], "state": 0.1 * ones(9, 9), "out": PARAMS["down"]}
    x = np.stack([X, X[::-1], 2 * X])
    assert certify(infer_spec(run, params, x), run, params, x, complete=True).missed == ()


def test_a_pinned_part_of_a_concatenation_is_probed():
    def parts(p, x):
        first, second = (x @ p["up"])[:, :9], (x @ p["up"])[:, 9:]
        second = jnp.tanh(second) + 0 * jnp.cumsum(second, -1)
        return jnp.cumsum(jnp.tanh(first), -1) @ p["down"][:9] + second @ p["down"][9:]

    params = {"up": ones(5, 20), "down": ones(20, 3)}
    missed = certify(infer_spec(parts, params, X), parts, params, X, complete=True).missed
    assert [note.size for note in missed] == [11]
