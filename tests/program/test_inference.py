"""Specs read off programs: what is free, what is pinned and why, and that nothing is guessed."""

import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive

from dwalign.program import CertificateError, InferenceError, certify, infer_spec
from dwalign.program.inference import facts
from dwalign.symmetry import Axes, PermutationSpec, Sum, correspondence
from tests import drawn

X = drawn.normal(3, 5)
weights = drawn.named


DOUBLED = Primitive("doubled")
DOUBLED.def_impl(lambda x: jnp.tanh(x) * 2)
DOUBLED.def_abstract_eval(lambda x: x)


def refuse(total):
    raise ValueError(f"must be small, found {total}")


def ones(*shape):
    return np.ones(shape, np.float32)


def chain(middle, width=6, after=None):
    """A two-layer network with something between the layers."""
    params = weights(up=(5, width), down=(after or width, 2))
    return lambda p, x: middle(x @ p["up"]) @ p["down"], params


FREE = {
    "one of two results": lambda h: jax.jit(lambda h, at: (h, jnp.cumsum(h, -1)[:, at]))(h, h[0].astype(int))[0],
    "tile": lambda h: h + jnp.tile(h[:1], (3, 1)),
    "checkpoint_name": lambda h: checkpoint_name(h, "hidden"),
    "segment_sum": lambda h: jax.ops.segment_sum(h[jnp.array([0, 2, 1, 1])], jnp.array([0, 1, 1, 2]), 3),
    "searchsorted": lambda h: h * jnp.searchsorted(jnp.linspace(-1.0, 1.0, 5), h),
    "compared with all edges": lambda h: (
        h * jnp.searchsorted(jnp.linspace(-1.0, 1.0, 5), h, method="compare_all").astype(float)
    ),
    "quantile": lambda h: h - jnp.quantile(h, 0.3, axis=-1, keepdims=True),
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "softmax": jax.nn.softmax,
    "standardise": lambda h: jax.nn.standardize(h),
    "transposed": lambda h: jnp.tanh(h.T).T,
    "taken apart and put together": lambda h: jnp.tanh(h.reshape(-1, 2, 3)).reshape(-1, 6),
    "a uniform constant": lambda h: h * jnp.full(6, 2.0)[None] + np.ones((1, 6), np.float32),
    "cond": lambda h: jax.lax.cond(h.sum() > 0, jnp.tanh, lambda z: z * 2, h),
    "while": lambda h: jax.lax.while_loop(lambda z: (z**2).sum() > 1, lambda z: z / 2, h),
    "while, by each example": jax.vmap(
        lambda h: jax.lax.while_loop(lambda z: (z**2).sum() > 1, lambda z: jnp.tanh(z / 2), h)
    ),
    "scan": lambda h: jax.lax.scan(lambda c, _: (jnp.tanh(c), None), h, None, length=3)[0],
    "remat": jax.checkpoint(jnp.tanh),
    "jit": jax.jit(jnp.tanh),
    "masked": lambda h: jnp.where(h > 0, h, jnp.zeros_like(h)),
    "stacked and averaged": lambda h: jnp.stack([h, jnp.tanh(h)]).mean(0),
    "stacked and taken apart": lambda h: sum(jnp.unstack(jnp.stack([h, jnp.tanh(h)], axis=1), axis=1)),
    "sum over the batch": lambda h: h - h.mean(0, keepdims=True),
    "complex constants": lambda h: ((h + 1j) * (2 - 1j) - 3j).real,
    "an infinite constant": lambda h: jnp.maximum(h - jnp.inf, h),
    "a primitive of another library": lambda h: DOUBLED.bind(h),
    "written whole, wherever that is": jax.vmap(
        lambda h: jax.lax.dynamic_update_slice(0 * h, h, [h.max().astype(int)])
    ),
    "a branch that only ends in an error": lambda h: jax.lax.cond(
        h.sum() > 1e6, lambda h: jax.pure_callback(refuse, h, h.sum()), jnp.tanh, h
    ),
    "a branch that is never taken": lambda h: jax.lax.cond(True, jnp.tanh, lambda z: z[:, ::-1], h),
    "a branch for each platform": lambda h: jax.lax.platform_dependent(h, cpu=jnp.tanh, default=jnp.tanh),
}
PINNED = {
    "cumsum": (lambda h: jnp.cumsum(h, -1), "cumsum"),
    "reversed": (lambda h: h[:, ::-1], "rev"),
    "iota": (lambda h: h + jnp.arange(6.0)[None], "iota"),
    "a constant": (lambda h: h * np.arange(6, dtype=np.float32)[None], "mul meets a constant"),
    "argmax": (lambda h: h + jnp.argmax(h, -1, keepdims=True), "argmax"),
    "fft": (lambda h: jnp.fft.fft(h).real, "fft depends on the order"),
    "strided": (lambda h: jnp.concatenate([h[:, ::4], h[:, 1:5]], -1), "slice"),
    "indexed": (lambda h: h[:, jnp.array([1, 0, 2, 3, 5, 4])], "gather"),
    "noise": (lambda h: h + jax.random.normal(jax.random.key(1), (1, 6)), "random"),
    "two divisions": (lambda h: h * (h.reshape(-1, 2, 3).sum(1)[:, :1] + h.reshape(-1, 3, 2).sum(1)[:, :1]), ""),
}


@pytest.mark.parametrize("name", FREE)
def test_what_treats_units_alike_leaves_them_free(name):
    apply, params = chain(FREE[name])
    spec = infer_spec(apply, params, X)
    assert correspondence(spec, PermutationSpec({"down": Axes("h", None), "up": Axes(None, "h")}, {"h": 6}))
    certify(spec, apply, params, X)


@pytest.mark.parametrize("name", PINNED)
def test_what_depends_on_the_order_is_pinned_with_a_reason(name):
    middle, why = PINNED[name]
    apply, params = chain(middle)
    spec = infer_spec(apply, params, X)
    assert not spec.sizes
    notes = [note.why for note in spec.notes if note.path == "['up']" and note.dimension == 1]
    assert notes and all(why in note and "test_inference.py:" in note for note in notes)


@pytest.mark.filterwarnings("error")
def test_types_that_jax_has_not_are_narrowed_without_a_word():
    shapes = {
        "up": jax.ShapeDtypeStruct((5, 6), np.float64),
        "down": jax.ShapeDtypeStruct((6, 2), np.float32),
        "count": jax.ShapeDtypeStruct((), np.int64),
    }
    spec = infer_spec(lambda p, x: jax.nn.relu(x @ p["up"]) @ p["down"] + p["count"], shapes, X)
    assert spec.sizes == {"h0": 6}


def test_unknown_primitives_are_listed_with_their_line():
    apply, params = chain(lambda h: jnp.linalg.svd(h, full_matrices=False)[2], after=6)
    spec = infer_spec(apply, params, X)
    assert list(spec.unknown) == ["svd"] and "test_inference.py:" in spec.unknown["svd"]
    assert "without a rule" in spec.describe() and "svd" in spec.describe()
    assert not infer_spec(*chain(jnp.tanh), X).unknown


def test_what_a_primitive_takes_together_is_no_axis_that_it_maps_over():
    """Its rule for batches does not ask whether there is such a computation of one number each."""
    apply, params = chain(lambda h: jax.lax.linalg.tridiagonal_solve(h[0], 9 + h[1], h[2], h.T).T)
    assert not infer_spec(apply, params, X).sizes


def test_concatenations_are_sums():
    params = weights(one=(5, 3), two=(5, 4), down=(7, 2))
    apply = lambda p, x: jnp.concatenate([x @ p["one"], jnp.tanh(x @ p["two"])], -1) @ p["down"]
    spec = infer_spec(apply, params, X)
    assert spec.axes["down"] == Axes(Sum("h0", "h1"), None) and dict(spec.sizes) == {"h0": 3, "h1": 4}
    split = lambda p, x: (lambda a, b: jnp.concatenate([a, b * 2], -1))(*jnp.split(jnp.tanh(x @ p["up"]), [2], -1))
    params = weights(up=(5, 6), down=(6, 2))
    spec = infer_spec(lambda p, x: split(p, x) @ p["down"], params, X)
    assert spec.axes["up"] == Axes(None, Sum("h0", "h1")) and dict(spec.sizes) == {"h0": 2, "h1": 4}


def test_padding_with_one_value_concatenates():
    params = weights(up=(5, 4), skip=(5, 6), down=(6, 2))
    apply = lambda p, x: (jnp.pad(x @ p["up"], ((0, 0), (0, 2))) + x @ p["skip"]) @ p["down"]
    spec = infer_spec(apply, params, X)
    assert spec.axes["skip"] == Axes(None, Sum("h0", "h1")) and spec.axes["up"] == Axes(None, "h0")


def test_a_group_that_occurs_twice():
    params = weights(up=(5, 4), turn=(4, 4), down=(4, 2))

    def apply(p, x):
        h, _ = jax.lax.scan(lambda h, _: (jnp.tanh(h @ p["turn"]), None), x @ p["up"], None, length=3)
        return h @ p["down"]

    spec = infer_spec(apply, params, X)
    assert spec.axes["turn"] == Axes("h0", "h0") and dict(spec.sizes) == {"h0": 4}


def test_groups_are_batched_over_what_they_always_occur_with():
    params = weights(up=(5, 3, 4), down=(3, 4, 2))
    apply = lambda p, x: jnp.einsum("bhu,huo->bo", jnp.tanh(jnp.einsum("bi,ihu->bhu", x, p["up"])), p["down"])
    spec = infer_spec(apply, params, X)
    assert spec.axes["up"] == Axes(None, "h0", "h1") and spec.batch["h1"] == ("h0",)

    # with the mean over heads units are tied across heads, but heads may be exchanged for each unit by itself
    def mixed(p, x):
        units = jnp.einsum("bi,ihu->bhu", x, p["up"])
        return jnp.einsum("bhu,huo->bo", jnp.tanh(units + units.mean(1, keepdims=True)), p["down"])

    assert dict(infer_spec(mixed, params, X).batch) == {"h0": ("h1",)}
    certify(infer_spec(mixed, params, X), mixed, params, X)


def test_products_over_pairs_of_units_forbid_batching():
    # h.h^T over pairs of heads compares units of different heads: they cannot be permuted for each head by itself
    params = weights(up=(5, 3, 4), down=(3, 2))
    apply = lambda p, x: jnp.einsum("bhu,bgu,ho->bo", *[jnp.einsum("bi,ihu->bhu", x, p["up"])] * 2, p["down"])
    spec = infer_spec(apply, params, X)
    assert set(spec.sizes.values()) == {3, 4} and not spec.batch
    certify(spec, apply, params, X)


def test_scanned_layers_have_independent_groups():
    params = {"up": weights(up=(5, 4))["up"], "layers": weights(a=(3, 4, 6), b=(3, 6, 4)), "down": ones(4, 2)}

    def apply(p, x):
        step = lambda h, w: (h + jnp.tanh(h @ w["a"]) @ w["b"], None)
        return jax.lax.scan(step, x @ p["up"], p["layers"])[0] @ p["down"]

    spec = infer_spec(apply, params, X)
    inner = next(g for g, n in spec.sizes.items() if n == 6)
    (layer,) = spec.batch[inner]
    assert dict(spec.fixed) == {layer: 3} and spec.axes["layers"]["a"] == Axes(layer, "h0", inner)
    certify(spec, apply, params, X)


def test_layers_indexed_by_a_value_are_not_independent():
    params = {"up": weights(up=(5, 4))["up"], "layers": weights(a=(3, 4, 6), b=(3, 6, 4)), "down": ones(4, 2)}

    def apply(p, x):
        step = lambda k, h: h + jnp.tanh(h @ p["layers"]["a"][k]) @ p["layers"]["b"][2 - k]
        return jax.lax.fori_loop(0, 3, step, x @ p["up"]) @ p["down"]

    spec = infer_spec(apply, params, X)
    assert set(spec.sizes.values()) == {4, 6} and not spec.batch
    certify(spec, apply, params, X)


def test_several_inputs_and_abstract_shapes():
    apply, params = chain(jnp.tanh)
    two = lambda p, x, y: apply(p, x + y["more"])
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, X))
    spec = infer_spec(two, abstract[0], abstract[1], {"more": abstract[1]})
    assert dict(spec.sizes) == {"h0": 6}


def test_parameters_that_are_not_used_are_pinned():
    apply, params = chain(jnp.tanh)
    spec = infer_spec(apply, {**params, "spare": ones(4, 3)}, X)
    assert spec.axes["spare"] == Axes(None, None)
    assert {note.why for note in spec.notes if "spare" in note.path} == {"not used by the program"}


def test_nnx_models():
    nnx = pytest.importorskip("flax.nnx")

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.up, self.norm = nnx.Linear(5, 6, rngs=rngs), nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
            self.down = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x):
            return self.down(nnx.relu(self.norm(self.up(x))))

    graph, state = nnx.split(Model(nnx.Rngs(0)))
    params = nnx.to_pure_dict(state)
    apply = lambda p, x: nnx.merge(graph, p)(x)
    spec = infer_spec(apply, params, X)
    assert dict(spec.sizes) == {"h0": 6} and spec.axes["norm"]["mean"] == Axes("h0")
    certify(spec, apply, params, X)


def test_every_group_of_a_wrong_rule_would_be_caught():
    """The certificate of each free program fails once the permutation of one array is left out."""
    apply, params = chain(jax.nn.relu)
    wrong = PermutationSpec({"down": Axes(None, None), "up": Axes(None, "h0")}, {"h0": 6})
    with pytest.raises(ValueError, match="h0"):
        certify(wrong, apply, params, X)


def test_bad_input():
    apply, params = chain(jnp.tanh)
    with pytest.raises(InferenceError, match="close over"):
        infer_spec(lambda p, x: apply(params, x), params, X)
    with pytest.raises(InferenceError, match="must return arrays"):
        infer_spec(lambda p, x: (apply(p, x), "text"), params, X)
    with pytest.raises(InferenceError, match=r"\['up'\] is a str"):
        infer_spec(apply, {**params, "up": "weights"}, X)
    with pytest.raises(InferenceError, match=r"could not be traced .* \(at test_inference\.py:\d+\)"):
        infer_spec(apply, params, X[:, :3])


def test_describe_names_the_line_that_pins():
    text = infer_spec(*chain(lambda h: jnp.cumsum(h, -1)), X).describe()
    assert "cumsum depends on the order at test_inference.py:" in text and "an input of the program" in text


def test_notes_name_no_line_of_an_installed_package():
    """Wherever it lies: a stacked environment, Debian's, a user's own."""
    for folder in ("/elsewhere/lib/python3.11/site-packages", "/usr/lib/python3/dist-packages"):
        assert facts.installed(f"{folder}/jax/_src/core.py")
    assert facts.installed(json.__file__) and facts.installed(facts.__file__) and not facts.installed(__file__)


def test_names_follow_the_order_of_computation():
    class Deep(nn.Module):
        @nn.compact
        def __call__(self, x):
            for k in range(12):
                x = nn.relu(nn.Dense(k + 3)(x))
            return nn.Dense(2)(x)

    model = Deep()
    spec = infer_spec(model.apply, jax.eval_shape(model.init, jax.random.key(0), X), X)
    assert list(spec.sizes.values()) == [k + 3 for k in range(12)]
    assert list(spec.sizes) == [f"h{k}" for k in range(12)]


def test_inference_is_deterministic_and_independent_of_the_batch():
    apply, params = chain(jnp.tanh)
    first, again = infer_spec(apply, params, X), infer_spec(apply, params, ones(7, 5))
    assert first == again and hash(first) == hash(again)
    chex.assert_equal(first.to_json(), again.to_json())


def heads(body):
    """Hidden units in four heads, of which `body` gets them inside of a loop over the heads."""

    def apply(params, x):
        z = jnp.einsum("bi,ihq->hbq", x, params["up"])
        return jnp.einsum("hbq,hqo->bo", jax.lax.map(lambda one: body(one, z), z), params["down"])

    return apply


LOOPED = {"up": (5, 4, 3), "down": (4, 3, 2)}
FLAT = {"up": (5, 6), "down": (6, 2)}


def between(middle):
    return lambda params, x: middle(x @ params["up"]) @ params["down"]


def largest_with_payload(x, y):
    def keep(one, two):
        larger = one[0] > two[0]
        return jnp.where(larger, one[0], two[0]), jnp.where(larger, one[1], two[1])

    return jax.lax.reduce((x, y), (-jnp.inf, 0.0), keep, (0,))[1]


def pooled_tangent(x, tangent):
    pool = lambda h: nn.max_pool(h[..., None], (2,), (1,))[..., 0]
    return jax.jvp(pool, (x,), (tangent,))[1]


HEADS, UNITS, INNER = 2, 3, 5


def attention(cut, project=lambda p, x: x @ p["qkv"]):
    """Fused queries, keys and values of two heads, taken apart by `cut`."""

    def apply(p, x):
        q, k, v = cut(project(p, x))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return jnp.einsum("bhqk,bkhd,hdo->bqo", weights, v, p["o"])

    return apply


def in_three(y):
    return y.reshape(*y.shape[:2], 3, HEADS, UNITS)


def in_turns(y):
    return y.reshape(*y.shape[:2], HEADS, UNITS, 3)


QKV = weights(qkv=(INNER, 3 * HEADS * UNITS), o=(HEADS, UNITS, 2))
SPREAD = weights(qkv=(3, HEADS, INNER, UNITS), o=(HEADS, UNITS, 2))
FUSED = {
    "threes before heads": (
        attention(lambda y: jnp.moveaxis(in_three(y), 2, 0)), QKV, "_, h0*h1 + h0*h1 + h0*h2",
    ),
    "indexed": (
        attention(lambda y: [in_three(y)[:, :, k] for k in range(3)]), QKV, "_, h0*h1 + h0*h1 + h0*h2",
    ),
    "threes inside of heads": (
        attention(lambda y: jnp.unstack(y.reshape(*y.shape[:2], HEADS, 3, UNITS), axis=3)), QKV, "_, h0*(h1 + h1 + h2)",
    ),
    "side by side in every head": (
        attention(lambda y: jnp.split(y.reshape(*y.shape[:2], HEADS, 3 * UNITS), 3, -1)), QKV, "_, h0*(h1 + h1 + h2)",
    ),
    "threes inside of units": (
        attention(lambda y: jnp.moveaxis(in_turns(y), -1, 0)), QKV, "_, h0*(h1 & h1 & h2)",
    ),
    "every third": (
        attention(lambda y: [y[..., k::3].reshape(*y.shape[:2], HEADS, UNITS) for k in range(3)]),
        QKV, "_, (h0*h1 & h0*h1 & h0*h2)",
    ),
    "units before threes before heads": (
        attention(lambda y: jnp.moveaxis(y.reshape(*y.shape[:2], UNITS, 3, HEADS), (3, 4, 2), (0, 3, 4))),
        QKV, "_, (h0 & h0 & h1)*h2",
    ),
    "an axis of their own": (
        attention(lambda y: y, lambda p, x: jnp.einsum("bti,shid->sbthd", x, p["qkv"])),
        SPREAD, "0: 1, h0, _, h1 | 1, h0, _, h1 | 1, h0, _, h2",
    ),
    "weights that are taken apart": (
        attention(lambda y: y, lambda p, x: [jnp.einsum("bti,hid->bthd", x, w) for w in p["qkv"]]),
        SPREAD, "0: 1, h0, _, h1 | 1, h0, _, h1 | 1, h0, _, h2",
    ),
    "rotated in part": (
        attention(lambda y: [jnp.concatenate([z[..., :1] * jnp.arange(4.0)[None, :, None, None], z[..., 1:]], -1)
                             for z in jnp.moveaxis(in_three(y), 2, 0)]),
        QKV, "_, h0*(1 + h1) + h0*(1 + h1) + h0*(1 + h2)",
    ),
    # what mixes the three ties them
    "their mean, in turns": (
        attention(lambda y: jnp.moveaxis(in_turns(y) - in_turns(y).mean(-1, keepdims=True), -1, 0)), QKV, "_, h0*h1*3",
    ),
    "one by the next": (
        attention(lambda y: jnp.moveaxis(in_turns(y) * in_turns(y)[..., jnp.array([1, 2, 0])], -1, 0)),
        QKV, "_, h0*h1*3",
    ),
    "their mean": (
        attention(lambda y: jnp.moveaxis(in_three(y) - in_three(y).mean(2, keepdims=True), 2, 0)), QKV, "_, 3*h0*h1",
    ),
    "sums over them": (
        attention(lambda y: jnp.moveaxis(jnp.cumsum(in_three(y), 2), 2, 0)), QKV, "_, 3*h0*h1",
    ),
    "the first added to all": (
        attention(lambda y: jnp.moveaxis(in_three(y) + in_three(y)[:, :, :1], 2, 0)), QKV, "_, 3*h0*h1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_projections_part(name):
    apply, params, axes = FUSED[name]
    x = drawn.normal(3, 4, INNER)
    spec = infer_spec(apply, params, x)
    assert str(spec.axes["qkv"]) == axes
    certify(spec, apply, params, x)


@pytest.mark.parametrize(
    "wrong", ["head*(a & b & a)", "head*(b & a & a)", "head*(b & b & a)", "head*(a + a + b)", "head*a*3"]
)
def test_what_takes_turns_is_told_apart(wrong):
    apply, params, _ = FUSED["threes inside of units"]
    x, sizes = drawn.normal(3, 4, INNER), {"head": HEADS, "a": UNITS, "b": UNITS}
    spec = lambda axes: PermutationSpec(
        {"o": Axes("head", "b", None), "qkv": Axes.parse(f"_, {axes}")},
        sizes,
        batch={"a": ("head",), "b": ("head",)},
    )
    certify(spec("head*(a & a & b)"), apply, params, x)
    with pytest.raises(CertificateError):
        certify(spec(wrong), apply, params, x)


def test_biases_that_are_put_side_by_side():
    """As in Swin V2, where keys have none: the kernel is fused, the biases of queries and values are not."""

    def project(p, x):
        return x @ p["qkv"] + jnp.concatenate([p["q"], jnp.zeros_like(p["q"]), p["v"]])[None, None]

    apply = attention(lambda y: jnp.moveaxis(in_three(y), 2, 0), project)
    params, x = QKV | weights(q=(HEADS * UNITS,), v=(HEADS * UNITS,)), drawn.normal(3, 4, INNER)
    spec = infer_spec(apply, params, x)
    assert [str(spec.axes[name]) for name in ("q", "v", "qkv")] == ["h0*h1", "h0*h2", "_, h0*h1 + h0*h1 + h0*h2"]
    certify(spec, apply, params, x)
    mixed = attention(lambda y: jnp.moveaxis(in_three(y) - in_three(y).mean(2, keepdims=True), 2, 0), project)
    assert str(infer_spec(mixed, params, x).axes["qkv"]) == "_, h0*h1 + h0*h1 + h0*h1"


def test_norms_of_groups_over_streams_side_by_side():
    def apply(p, x):
        both = jnp.concatenate([x @ p["wide"], x @ p["narrow"]], -1)
        means = jnp.repeat(both.reshape(3, 6, 4).mean(-1), 4, axis=-1)
        return jnp.tanh(both - means) @ p["down"]

    params = weights(wide=(5, 16), narrow=(5, 8), down=(24, 2))
    spec = infer_spec(apply, params, X)
    # units of one stream are not those of the other, and each group has its own
    assert [str(axes) for axes in spec.leaves] == ["h0*h1 + h2*h3, _", "_, h2*h3", "_, h0*h1"]
    assert spec.batch == {"h1": ("h0",), "h3": ("h2",)}
    assert not certify(spec, apply, params, X, complete=True).missed


def test_one_kernel_reads_two_streams():
    """Cross attention with a fused kernel: the rows of queries read one stream, those of keys and values another."""
    width = HEADS * UNITS
    shapes = dict(a=(INNER, width), b=(INNER, width), qkv=(3 * width, width), bias=(3 * width,), o=(HEADS, UNITS, 2))

    def apply(p, x, memory):
        q, kv = (
            stream @ kernel.T + bias[None, None]
            for stream, kernel, bias in zip(
                (x @ p["a"], memory @ p["b"]), jnp.split(p["qkv"], [width]), jnp.split(p["bias"], [width]), strict=True
            )
        )
        k, v = jnp.moveaxis(kv.reshape(*kv.shape[:2], 2, HEADS, UNITS), 2, 0)
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q.reshape(*q.shape[:2], HEADS, UNITS), k))
        return jnp.einsum("bhqk,bkhd,hdo->bqo", weights, v, p["o"])

    params, x, memory = weights(**shapes), ones(2, 3, INNER), ones(2, 4, INNER)
    spec = infer_spec(apply, params, x, memory)
    assert str(spec.axes["a"]) != str(spec.axes["b"]) and len(spec.axes["qkv"].pieces) == 3
    certify(spec, apply, params, x, memory)


def test_what_no_result_depends_on_ties_nothing():
    def apply(p, x):
        h = jnp.tanh(x @ p["one"])
        g = jnp.tanh(h @ p["two"])
        jnp.stack([h, g])
        return g @ p["three"]

    assert len(infer_spec(apply, weights(one=(5, 6), two=(6, 6), three=(6, 2)), X).sizes) == 2


def test_positions_that_these_inputs_do_not_reach_stay_where_they_are():
    params = weights(embed=(5, 6), place=(20, 6), down=(6, 2))
    apply = lambda p, x: jnp.tanh(x @ p["embed"] + p["place"][None, : x.shape[1]]) @ p["down"]
    spec = infer_spec(apply, params, ones(3, 4, 5))
    assert spec.axes["place"] == Axes(None, "h0") and dict(spec.sizes) == {"h0": 6}


TRAPS = {
    "an invariant of a loop, reduced inside": (heads(lambda one, z: one - z.max(0)), LOOPED),
    "an invariant of a loop, indexed inside": (heads(lambda one, z: one * z[0]), LOOPED),
    "a reshape in Fortran order": (between(lambda h: jnp.ravel(h, order="F").reshape(3, 6)), FLAT),
    "a reduction of pairs": (
        lambda p, x: largest_with_payload(x @ p["up"], x @ p["other"]) @ p["down"],
        FLAT | {"other": (5, 6)},
    ),
    "what a window selects and gathers": (
        lambda p, x: pooled_tangent(x @ p["up"], x @ p["other"]) @ p["down"],
        {"up": (5, 6), "other": (5, 6), "down": (5, 2)},
    ),
    "positions that are looked up": (
        lambda p, x: (
            jax.lax.gather(
                jnp.arange(4.0).reshape(2, 2),
                (x @ p["up"] > 0).astype(jnp.int32),
                jax.lax.GatherDimensionNumbers((), (0, 1), (0, 1)),
                (1, 1),
            )
            * p["down"].sum()
        ),
        {"up": (5, 2), "down": (6, 2)},
    ),
    "a jacobian": (between(lambda h: jax.vmap(jax.jacfwd(jnp.tanh))(h).sum(1)), FLAT),
    "a mean that is repeated": (
        between(lambda h: h - jnp.concatenate([h.reshape(-1, 2, 3).mean(1)] * 2, -1)),
        FLAT,
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_programs_that_look_more_symmetric_than_they_are(trap):
    apply, shapes = TRAPS[trap]
    params, x = weights(**shapes), drawn.normal(3, 5, seed=1)
    certify(infer_spec(apply, params, x), apply, params, x, tolerance=1e-5)


def test_settings_are_no_arrays():
    apply = lambda params, x, deep, times: x @ params["up"] @ params["down"] * times if deep else None
    assert dict(infer_spec(apply, weights(**FLAT), ones(3, 5), True, 2).sizes) == {"h0": 6}


def test_keys_may_be_closed_over():
    key = jax.random.key(3)
    apply = between(lambda h: h + jax.random.normal(key, ()))
    assert dict(infer_spec(apply, weights(**FLAT), ones(3, 5)).sizes) == {"h0": 6}


def test_gates_that_take_turns_with_what_they_let_through():
    params = weights(up=(5, 12), bias=(12,), down=(6, 2))
    h = lambda p, x: x @ p["up"] + p["bias"][None]
    apply = lambda p, x: (jax.nn.silu(h(p, x)[:, ::2]) * (h(p, x)[:, 1::2] + 1)) @ p["down"]
    spec = infer_spec(apply, params, X)
    assert [str(axes) for axes in spec.leaves] == ["h0*2", "h0, _", "_, h0*2"]
    certify(spec, apply, params, X)
    for other in (
        lambda z: z[:, 1::2][:, ::-1],
        lambda z: z[:, :6] + z[:, 6:],
        lambda z: z[:, :11:2][:, jnp.array([1, 0, 2, 3, 4, 5])] + z[:, 1::2],
    ):
        apply = lambda p, x, other=other: (h(p, x)[:, ::2] * other(h(p, x))) @ p["down"]
        assert not infer_spec(apply, params, X).sizes
