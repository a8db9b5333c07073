"""Signs, scales, orthogonal and linear maps of networks, declared by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.symmetry import Axes, PermutationSpec, correspondence
from tests import drawn
from tests.drawn import named as weights
from tests.networks.declared import CASES, randomised
from tests.program.free import X, inferred, norm, written


def declared(spec, kinds, powers):
    """A spec of permutations with larger kinds: for parts of paths the axes there."""
    leaves = []
    for path, axes in zip(spec.paths, spec.leaves, strict=True):
        named = [text for part, text in powers.items() if path.endswith(part)]
        leaves.append(Axes.parse(named[0]) if named else axes)
    sizes, batch, fixed = spec.sizes, spec.batch, spec.fixed
    return PermutationSpec(spec.treedef.unflatten(leaves), sizes, batch=batch, fixed=fixed, kinds=kinds)


def dense(layer, before, after):
    return {f"['{layer}']['kernel']": f"{before}, {after}", f"['{layer}']['bias']": after}


def gates(units, before, cell, names, biases):
    """Of a recurrent layer; sigmoids see no sign, which the state keeps."""
    out = {}
    for gate, power in names.items():
        at = f"{units}^{power}"
        out |= {
            f"['{cell}']['i{gate}']['kernel']": f"{before}, {at}",
            f"['{cell}']['h{gate}']['kernel']": f"{units}, {at}",
        }
        out |= {f"['{cell}']['{bias}{gate}']['bias']": at for bias in biases}
    return out


def batch_norm(units, layer, conv, before):
    """What is before the normalisation with the mean that was measured there, and the gain, each with all behind it."""
    return {
        f"['{layer}']['mean']": f"{units}^1:0~1",
        f"['{layer}']['var']": f"{units}^0:0~0",
        f"['{layer}']['bias']": f"{units}^1:1~0",
        f"['{layer}']['scale']": f"{units}^0:1~1",
        f"['{conv}']['kernel']": f"_, _, {before}, {units}^1:0~1",
    }


MLP_KINDS = dict(a="scale", b="scale")
MLP_POWERS = dense("dense_1", "a^-1", "b") | {"['dense_2']['kernel']": "b^-1, _"}
SPLIT = "a^0 + a^0 + a + a^0", "b^0 + b^0 + b + b^0"
DECLARED = {
    "mlp": (MLP_KINDS, MLP_POWERS),
    "siren": (dict(a="sign", b="sign"), {}),
    "cnn": (
        dict(c0="scale", c1="scale", d0="scale"),
        {
            "['conv_1']['kernel']": "_, _, c0^-1, c1",
            "['dense_0']['kernel']": "6*c1^-1, d0",
            "['dense_1']['kernel']": "d0^-1, _",
        },
    ),
    "vgg": (
        dict.fromkeys("abcd", "scale"),
        {
            "['conv_0_1']['kernel']": "_, _, a^-1, b",
            "['conv_1_0']['kernel']": "_, _, b^-1, c",
            "['dense_0']['kernel']": "4*c^-1, d",
            "['dense_1']['kernel']": "d^-1, _",
        },
    ),
    "vgg_batch": (
        dict.fromkeys("abc", "monomial") | {"d": "scale"},
        batch_norm("a", "norm_0_0", "conv_0_0", "_")
        | batch_norm("b", "norm_0_1", "conv_0_1", "a^-1:-1~0")
        | batch_norm("c", "norm_1_0", "conv_1_0", "b^-1:-1~0")
        | {"['dense_0']['kernel']": "4*c^-1:-1~0, d", "['dense_1']['kernel']": "d^-1, _"},
    ),
    "gru": (
        dict(a="sign", b="sign"),
        gates("a", "_", "cell_0", dict(r=0, z=0), "i") | gates("b", "a", "cell_1", dict(r=0, z=0), "i"),
    ),
    "lstm": (
        dict(a="sign", b="sign"),
        gates("a", "_", "cell_0", dict(i=0, f=0, o=0), "h") | gates("b", "a", "cell_1", dict(i=0, f=0, o=0), "h"),
    ),
    "lstm_fused": (
        dict(a="sign", b="sign"),
        {
            "['cell_0']['gates']['kernel']": f"2 + a, {SPLIT[0]}",
            "['cell_0']['gates']['bias']": SPLIT[0],
            "['cell_1']['gates']['kernel']": f"a + b, {SPLIT[1]}",
            "['cell_1']['gates']['bias']": SPLIT[1],
        },
    ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_networks_have_the_kinds_that_are_declared(name):
    case, (kinds, powers) = CASES[name], DECLARED[name]
    # of the two that are the same network the smaller one is probed
    params, complete = randomised(case.module, case.example), name != "lstm"
    spec, certificate = inferred(case.module.apply, params, case.example, complete=complete)
    expected = declared(case.spec, kinds, powers)
    assert correspondence(spec, expected), [str(axes) for axes in spec.written]
    assert not certificate.missed


HEADS, UNITS, DIM, WIDTH, TOKENS = 2, 3, 6, 5, np.array([[0, 3, 2, 5], [1, 4, 4, 6]])
PARTS = dict(q=(DIM, HEADS, UNITS), k=(DIM, HEADS, UNITS), v=(DIM, HEADS, UNITS), o=(HEADS, UNITS, DIM))
BLOCK = PARTS | dict(up=(DIM, WIDTH), gate=(DIM, WIDTH), down=(WIDTH, DIM))


def attend(p, x, keys=None):
    keys = x if keys is None else keys
    q, k, v = jnp.einsum("bti,ihd->bthd", x, p["q"]), *(jnp.einsum("bti,ihd->bthd", keys, p[n]) for n in "kv")
    scores = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    return jnp.einsum("bhts,bshd,hdo->bto", scores, v, p["o"])


def block(p, x):
    x = x + attend(p, norm(x, 1e-5))
    h = norm(x, 1e-5)
    return x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]


def block_spec(name, layers=""):
    """The residual stream is one space of vectors, so are the bases of queries with keys and of values in each head."""
    head, qk, vo, unit = (f"{name}{part}" for part in ("head", "qk", "vo", "unit"))
    axes = {
        "q": f"r, {head}, {qk}",
        "k": f"r, {head}, {qk}^-1",
        "v": f"r, {head}, {vo}",
        "o": f"{head}, {vo}^-1, r",
        "gate": f"r, {unit}^0",
        "up": f"r, {unit}",
        "down": f"{unit}^-1, r",
    }
    sizes = {head: HEADS, qk: UNITS, vo: UNITS, unit: WIDTH}
    over = (layers,) if layers else ()
    batch = {head: over, qk: (*over, head), vo: (*over, head), unit: over}
    kinds = {qk: "linear", vo: "linear", unit: "monomial"}
    written = {part: Axes.parse(f"{layers}, {text}" if layers else text) for part, text in axes.items()}
    return written, sizes, batch, kinds


def test_a_residual_stream_without_gains_is_orthogonal():
    one, two = weights(**BLOCK), weights(**BLOCK, seed=1)
    params = {"blocks": [one, two], **weights(embedding=(7, DIM), head=(DIM, 4), seed=2)}

    def apply(p, tokens):
        x = p["embedding"][tokens]
        for part in p["blocks"]:
            x = block(part, x)
        return norm(x, 1e-5) @ p["head"]

    spec, certificate = inferred(apply, params, TOKENS)
    parts = [block_spec(name) for name in "ab"]
    axes = {"blocks": [part[0] for part in parts], "embedding": Axes(None, "r"), "head": Axes("r", None)}
    sizes, batch, kinds = ({k: v for part in parts for k, v in part[n].items()} for n in (1, 2, 3))
    expected = PermutationSpec(axes, sizes | {"r": DIM}, batch=batch, kinds=kinds | {"r": "orthogonal"})
    assert correspondence(spec, expected), spec
    assert not certificate.missed


def test_a_scan_over_layers_has_what_its_layers_have():
    layers = {name: np.stack([one, one[::-1] / 2]) for name, one in weights(**BLOCK).items()}
    # tied: what reads the stream is what writes it
    params = {"layers": layers, **weights(embedding=(7, DIM), seed=2)}

    def apply(p, tokens):
        x, _ = lax.scan(lambda x, p: (block(p, x), None), p["embedding"][tokens], p["layers"])
        return norm(x, 1e-5) @ p["embedding"].T

    spec, certificate = inferred(apply, params, TOKENS)
    axes, sizes, batch, kinds = block_spec("a", layers="layer")
    tree = {"layers": axes, "embedding": Axes(None, "r")}
    kinds |= {"r": "orthogonal"}
    expected = PermutationSpec(tree, sizes | {"r": DIM}, batch=batch, fixed={"layer": 2}, kinds=kinds)
    assert correspondence(spec, expected), spec
    assert not certificate.missed


def test_gains_leave_signs_and_scales_of_their_own():
    """With gains the stream keeps signs and orders, and each gain trades with the weights behind it."""
    params = weights(embedding=(7, DIM), gain=(DIM,), last=(DIM,), up=(DIM, WIDTH), down=(WIDTH, DIM), head=(DIM, 4))

    def apply(p, tokens):
        x = p["embedding"][tokens]
        x = x + jax.nn.gelu(norm(x, 1e-5) * p["gain"][None, None] @ p["up"]) @ p["down"]
        return norm(x, 1e-5) * p["last"][None, None] @ p["head"]

    spec, certificate = inferred(apply, params, TOKENS)
    assert written(spec) == {
        "['down']": "h1, h0^0:0~1:0:0",
        "['embedding']": "_, h0^0:0~1:0:0",
        "['gain']": "h0^1:0~0:1:0",
        "['head']": "h0^0:-1~1:0:1, _",
        "['last']": "h0^0:1~0:0:1",
        "['up']": "h0^-1:0~1:1:0, h1",
    }
    assert dict(spec.kinds) == {"h0": "monomial", "h1": "permutation"} and not certificate.missed


ATTENTION = ["transformer_grouped", "transformer_rotary_gated"]


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_has_bases_in_each_head(name):
    """Queries with keys and values with outputs, unless rotary embeddings or shared heads stand between."""
    case, bases, units = CASES[name], dict(qk="linear", vo="linear"), "permutation"
    if "rotary" in name:
        bases, units = dict(vo="linear"), "monomial"
    spec, certificate = inferred(case.module.apply, randomised(case.module, case.example), case.example, complete=False)
    names = correspondence(case.spec, spec.with_kinds())
    found = {mine: spec.kinds[yours] for mine, yours in names.items() if yours in spec.kinds}
    kinds = dict.fromkeys(("heads", "queries"), "permutation") | bases | {"up": units}
    # the stream trades with gains, and with the signs where these are all that is between
    assert found == {g: "monomial" if g == "r" else kinds[g.rpartition("_")[2]] for g in found}
    # the shift of a softmax
    assert all("['key']['bias']" in path for path in certificate.unseen)


PARTS = {
    "the first": (lambda h: h[:, :3], "h0 + h1"),
    "from a fixed start": (lambda h: lax.dynamic_slice_in_dim(h, 3, 3, 1), "h0 + h1"),
    "by fixed numbers": (lambda h: h[:, np.arange(2, 4)], "h0 + h1 + h2"),
    "every other": (lambda h: h[:, ::2], "(h0 & h1)"),
    "a column": (lambda h: h.reshape(3, 3, 2)[..., 1], "(h0 & h1)"),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_have_maps_of_their_own(name):
    take, axes = PARTS[name]
    width = jax.eval_shape(take, jax.ShapeDtypeStruct((3, 6), np.float32)).shape[-1]
    params = weights(up=(5, 6), down=(width, 2), rest=(6, 2))
    apply = lambda p, x: take(x @ p["up"]) @ p["down"] + x @ p["up"] @ p["rest"]
    spec, certificate = inferred(apply, params, X)
    assert str(spec.axes["up"]) == f"_, {axes}" and not certificate.missed
    assert set(spec.kinds.values()) == {"linear"}


def test_grouped_convolutions_have_factors_in_each_group():
    conv = lambda x, kernel, groups: lax.conv_general_dilated(
        x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )

    def apply(p, x):
        h = jax.nn.relu(conv(x, p["up"], 1))
        return conv(jax.nn.relu(conv(h, p["grouped"], 3)), p["down"], 1)

    params, x = weights(up=(3, 5, 12), grouped=(3, 4, 6), down=(3, 6, 2)), drawn.normal(2, 7, 5)
    spec, certificate = inferred(apply, params, x)
    assert written(spec) == {
        "['down']": "_, h0*h2^-1, _",
        "['grouped']": "_, h1^-1, h0*h2",
        "['up']": "_, _, h0*h1",
    }
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "scale", "h2": "scale"} and not certificate.missed


def test_keys_without_a_bias_of_their_own():
    def apply(p, x, keys=jnp.zeros_like, values=lambda v: v):
        bias = jnp.concatenate([p["q"], keys(p["q"]), values(p["v"])])
        q, k, v = jnp.moveaxis((x @ p["qkv"] + bias[None, None]).reshape(*x.shape[:2], 3, 2, 3), 2, 0)
        seen = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return jnp.einsum("bhqk,bkhd,hdo->bqo", seen, v, p["o"])

    params, x = weights(qkv=(5, 18), q=(6,), v=(6,), o=(2, 3, 2)), drawn.normal(2, 4, 5)
    spec, certificate = inferred(apply, params, x)
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "linear", "h2": "linear"} and not certificate.missed
    assert written(spec)["['q']"] == "h0*h1" and written(spec)["['qkv']"] == "_, h0*h1 + h0*h1^-1 + h0*h2"
    ones = inferred(lambda p, x: apply(p, x, keys=jnp.ones_like), params, x)[0]
    assert ones.kinds["h1"] == "permutation" and ones.kinds["h2"] == "linear"
    cosine = inferred(lambda p, x: apply(p, x, values=jnp.zeros_like), params, x)[0]
    assert cosine.kinds["h1"] == cosine.kinds["h2"] == "linear"
