"""One small example of every network with its symmetries, declared by hand: as many as mathematics allows.

Sizes differ from each other where they may, so that what is confused does not fit.
"""

import functools
import itertools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dwalign.networks import (
    CNN,
    GNN,
    MLP,
    VGG,
    BlockOptions,
    DenseNet,
    Mixer,
    Recurrent,
    ResNet,
    Siren,
    Transformer,
    UNet,
    ViT,
)
from dwalign.symmetry import Axes, PermutationSpec, Sum
from tests import drawn


class Case(NamedTuple):
    """Attributes:
    module: the linen module, usable without its builder.
    example: inputs `[3, ...]`, of NumPy.
    spec: the declared symmetries.
    config: what `dwalign.networks.build` makes the same network of.
    """

    module: nn.Module
    example: jax.Array
    spec: PermutationSpec
    config: dict[str, Any]


def randomised(module, example, seed=0):
    return drawn.started(module.init, example, seed=seed)


class Traced(NamedTuple):
    """What several tests ask of a case, traced once: its shapes, and its function, compiled when it is first called."""

    params: Any
    apply: Any


@functools.cache
def traced(name):
    module, example, *_ = CASES[name]
    return Traced(jax.eval_shape(module.init, jax.random.key(0), example), jax.jit(module.apply))


# --- pieces -----------------------------------------------------------------------------------------------------------


def dense(before, after, bias=True):
    return {"kernel": Axes(before, after)} | ({"bias": Axes(after)} if bias else {})


def conv(before, after, bias=True):
    return {"kernel": Axes(None, None, before, after)} | ({"bias": Axes(after)} if bias else {})


def norm(units, bias=True):
    return {"scale": Axes(units)} | ({"bias": Axes(units)} if bias else {})


def stats(units):
    return {"mean": Axes(units), "var": Axes(units)}


def images(*shape):
    return drawn.normal(3, *shape, seed=7)


# --- dense and convolutional ------------------------------------------------------------------------------------------


def mlp():
    axes = {"dense_0": dense(None, "a"), "dense_1": dense("a", "b"), "dense_2": dense("b", None)}
    return Case(
        MLP((6, 4), 3),
        images(5),
        PermutationSpec({"params": axes}, {"a": 6, "b": 4}),
        {"kind": "mlp", "inputs": 5, "widths": [6, 4], "outputs": 3},
    )


def siren():
    axes = {"dense_0": dense(None, "a"), "dense_1": dense("a", "b"), "dense_2": dense("b", None)}
    return Case(
        Siren((6, 4), 3, 5.0),
        images(2),
        PermutationSpec({"params": axes}, {"a": 6, "b": 4}),
        {"kind": "siren", "inputs": 2, "widths": [6, 4], "outputs": 3, "omega": 5.0},
    )


def cnn():
    # 8 x 12 pixels, halved twice: the dense layer sees 2 x 3 positions, the channel varying fastest
    axes = {
        "conv_0": conv(None, "c0"),
        "conv_1": conv("c0", "c1"),
        "dense_0": dense((6, "c1"), "d0"),
        "dense_1": dense("d0", None),
    }
    return Case(
        CNN((4, 5), (7,), 3),
        images(8, 12, 2),
        PermutationSpec({"params": axes}, {"c0": 4, "c1": 5, "d0": 7}),
        {"kind": "cnn", "shape": [8, 12, 2], "channels": [4, 5], "widths": [7], "outputs": 3},
    )


def vgg(kind):
    # 8 x 8 pixels, halved twice; a convolution before a normalisation has no bias
    groups = {"0_0": "a", "0_1": "b", "1_0": "c"}
    before = dict(zip(groups, [None, "a", "b"], strict=True))
    axes = {f"conv_{k}": conv(before[k], g, bias=kind is None) for k, g in groups.items()}
    axes |= {"dense_0": dense((4, "c"), "d"), "dense_1": dense("d", None)}
    tree = {"params": axes}
    if kind is not None:
        tree["params"] |= {f"norm_{k}": norm(g) for k, g in groups.items()}
    if kind == "batch":
        tree["batch_stats"] = {f"norm_{k}": stats(g) for k, g in groups.items()}
    return Case(
        VGG(((4, 5), (6,)), (7,), 3, kind),
        images(8, 8, 2),
        PermutationSpec(tree, {"a": 4, "b": 5, "c": 6, "d": 7}),
        {"kind": "vgg", "shape": [8, 8, 2], "stages": [[4, 5], [6]], "widths": [7], "outputs": 3, "norm": kind},
    )


def resnet(kind, bottleneck=False):
    """All that is added to one residual stream is one group; the units inside each block are one of their own.

    Group normalisation ties channels to their norm group: they permute inside it, and norm groups with each other.
    """
    width, blocks, groups, times = 6, (2, 1), 3, 4 if bottleneck else 1
    sizes, batch = {}, {}

    def units(name, size):
        if kind != "group":
            sizes[name] = size
            return name
        sizes[f"{name}_groups"], sizes[name], batch[name] = groups, size // groups, (f"{name}_groups",)
        return (f"{name}_groups", name)

    stream = units("stem", width)
    axes = {"stem": conv(None, stream, bias=False), "norm": norm(stream)}
    moments = {"norm": stats(stream)}
    for s, count in enumerate(blocks):
        # the first stage goes on with the stream of the stem unless its blocks have more channels
        new = units(f"stage_{s}", times * width * 2**s) if s > 0 or bottleneck else stream
        for k in range(count):
            inner = [units(f"inner_{s}_{k}_{j}", width * 2**s) for j in range(2 if bottleneck else 1)]
            chain = [stream, *inner, new]
            block = {f"conv_{j}": conv(*pair, bias=False) for j, pair in enumerate(itertools.pairwise(chain))}
            outs = {f"norm_{j}": units for j, units in enumerate(chain[1:])}
            if stream != new:
                block["shortcut"] = conv(stream, new, bias=False)
                outs["norm_shortcut"] = new
            axes[f"block_{s}_{k}"] = block | {name: norm(out) for name, out in outs.items()}
            moments[f"block_{s}_{k}"] = {name: stats(out) for name, out in outs.items()}
            stream = new
    axes["head"] = dense(stream, None)
    tree = {"params": axes} | ({"batch_stats": moments} if kind == "batch" else {})
    options = {"width": width, "blocks": list(blocks), "outputs": 3, "norm": kind, "groups": groups}
    options |= {"bottleneck": bottleneck, "large": bottleneck}
    size = 16 if bottleneck else 6
    return Case(
        ResNet(**{**options, "blocks": blocks}),
        images(size, size, 2),
        PermutationSpec(tree, sizes, batch=batch),
        {"kind": "resnet", "shape": [size, size, 2], **options},
    )


def densenet():
    """Every layer adds a group beside those before it; a transition makes one new group of them all."""
    inputs = {"0_0": "s", "0_1": Sum("s", "a"), "1": Sum("s", "a", "b"), "1_0": "t", "1_1": Sum("t", "c")}
    last = Sum("t", "c", "d")
    axes = {
        "stem": conv(None, "s", bias=False),
        "conv_0_0": conv(inputs["0_0"], "a", bias=False),
        "conv_0_1": conv(inputs["0_1"], "b", bias=False),
        "transition_1": conv(inputs["1"], "t", bias=False),
        "conv_1_0": conv(inputs["1_0"], "c", bias=False),
        "conv_1_1": conv(inputs["1_1"], "d", bias=False),
        "head": dense(last, None),
        "norm": norm(last),
    }
    axes |= {f"norm_{k}": norm(units) for k, units in inputs.items()}
    moments = {f"norm_{k}": stats(units) for k, units in inputs.items()} | {"norm": stats(last)}
    sizes = {"s": 5, "a": 4, "b": 4, "t": 6, "c": 4, "d": 4}
    return Case(
        DenseNet(5, 4, (2, 2), 3),
        images(6, 6, 2),
        PermutationSpec({"params": axes, "batch_stats": moments}, sizes),
        {"kind": "densenet", "shape": [6, 6, 2], "stem": 5, "growth": 4, "layers": [2, 2], "outputs": 3},
    )


def unet():
    """On the way up, what the skip brings is beside what comes from below."""
    axes = {
        "down_0": conv(None, "d0"),
        "down_1": conv("d0", "d1"),
        "bottom": conv("d1", "b"),
        "upsample_1": conv("b", "s1"),
        "up_1": conv(Sum("d1", "s1"), "u1"),
        "upsample_0": conv("u1", "s0"),
        "up_0": conv(Sum("d0", "s0"), "u0"),
        "head": conv("u0", None),
    }
    sizes = {"d0": 4, "d1": 5, "b": 6, "s1": 5, "u1": 5, "s0": 4, "u0": 4}
    return Case(
        UNet((4, 5, 6), 2),
        images(8, 4, 3),
        PermutationSpec({"params": axes}, sizes),
        {"kind": "unet", "shape": [8, 4, 3], "channels": [4, 5, 6], "outputs": 2},
    )


# --- recurrent, graphs ------------------------------------------------------------------------------------------------


def recurrent(cell):
    """The state of a layer is one group, which its recurrent kernels carry twice."""
    gates = {"gru": "rzn", "lstm": "ifgo", "lstm_optimized": "ifgo"}
    axes = {"head": dense("b", None)}
    for k, (before, units) in enumerate([(None, "a"), ("a", "b")]):
        if cell == "lstm_fused":
            # inputs beside the state, to four gates beside each other
            joint = dense(Sum(2 if before is None else before, units), Sum(*[units] * 4))
            axes[f"cell_{k}"] = {"gates": joint}
        else:
            axes[f"cell_{k}"] = {f"i{g}": dense(before, units, bias=cell == "gru") for g in gates[cell]}
            axes[f"cell_{k}"] |= {f"h{g}": dense(units, units, bias=cell != "gru" or g == "n") for g in gates[cell]}
    return Case(
        Recurrent((4, 5), 3, cell),
        images(6, 2),
        PermutationSpec({"params": axes}, {"a": 4, "b": 5}),
        {"kind": "recurrent", "inputs": 2, "widths": [4, 5], "outputs": 3, "cell": cell, "time": 6},
    )


def gnn():
    """Nodes are positions, the same units at each."""
    axes = {
        "neighbours_0": dense(None, "a", bias=False),
        "node_0": dense(None, "a"),
        "neighbours_1": dense("a", "b", bias=False),
        "node_1": dense("a", "b"),
        "head": dense("b", None),
    }
    adjacency = np.broadcast_to(np.eye(6) + np.eye(6, k=1) + np.eye(6, k=-1), (3, 6, 6))
    return Case(
        GNN((4, 5), 3),
        np.concatenate([adjacency, images(6, 2)], -1, dtype=np.float32),
        PermutationSpec({"params": axes}, {"a": 4, "b": 5}),
        {"kind": "gnn", "nodes": 6, "features": 2, "widths": [4, 5], "outputs": 3},
    )


# --- tokens and patches -----------------------------------------------------------------------------------------------


def mixer():
    """Patches keep their order; the residual stream is one group, each MLP has one of its own."""
    axes = {"patches": conv(None, "r"), "norm": norm("r"), "head": dense("r", None)}
    sizes = {"r": 7}
    for k in range(2):
        axes |= {f"norm_tokens_{k}": norm("r"), f"norm_channels_{k}": norm("r")}
        axes |= {f"tokens_up_{k}": dense(None, f"t{k}"), f"tokens_down_{k}": dense(f"t{k}", None)}
        axes |= {f"channels_up_{k}": dense("r", f"c{k}"), f"channels_down_{k}": dense(f"c{k}", "r")}
        sizes |= {f"t{k}": 4, f"c{k}": 5}
    return Case(
        Mixer(2, 7, 2, 4, 5, 3),
        images(4, 6, 2),
        PermutationSpec({"params": axes}, sizes),
        {"kind": "mixer", "shape": [4, 6, 2], "patch": 2, "dim": 7, "depth": 2, "tokens": 4, "width": 5, "outputs": 3},
    )


def block(name, options, units, layers=()):
    """The axes, sizes and batching of one transformer block, or of a stack of them over `layers`.

    Heads permute with each other (of grouped queries: the key/value heads, and the queries inside each); each head has
    query/key units, unless rotary embeddings tell them apart, and value units; the MLP has its hidden units.
    """
    heads, queries, qk, vo, up = (f"{name}_{part}" for part in ("heads", "queries", "qk", "vo", "up"))
    shared = options.heads // options.kv_heads
    every = (heads, queries) if shared > 1 else (heads,)
    bias = options.norm == "layer"
    attention = {"out": {"kernel": Axes(*layers, every, vo, "r"), "bias": Axes(*layers, "r")}}
    if options.fused:
        pair = units if options.rotary else qk
        fused = Sum((*every, pair), (heads, pair), (heads, vo))
        attention["qkv"] = {"kernel": Axes(*layers, "r", fused), "bias": Axes(*layers, fused)}
    else:
        pair = None if options.rotary else qk
        for part, dims in {"query": (every, pair), "key": (heads, pair), "value": (heads, vo)}.items():
            attention[part] = {"kernel": Axes(*layers, "r", *dims), "bias": Axes(*layers, *dims)}
    axes = {"attention": attention}
    for part in ("norm_attention", "norm_mlp"):
        axes[part] = {"scale": Axes(*layers, "r")} | ({"bias": Axes(*layers, "r")} if bias else {})
    for part in ("up", "gate") if options.gated else ("up",):
        axes[part] = {"kernel": Axes(*layers, "r", up), "bias": Axes(*layers, up)}
    axes["down"] = {"kernel": Axes(*layers, up, "r"), "bias": Axes(*layers, "r")}
    sizes = {heads: options.kv_heads, vo: units, up: options.width}
    batch = {heads: layers, vo: (*layers, heads), up: layers}
    if shared > 1:
        sizes[queries], batch[queries] = shared, (*layers, heads)
    if not options.rotary:
        sizes[qk], batch[qk] = units, (*layers, heads)
    return axes, sizes, batch


def stack(axes, options, dim, depth, scan):
    """The spec of `depth` blocks on one residual stream with `axes` around them."""
    sizes, batch = {"r": dim}, {}
    for k in range(1 if scan else depth):
        layers = ("layers",) if scan else ()
        name = "blocks" if scan else f"block_{k}"
        axes[name], *more = block(name, options, dim // options.heads, layers)
        sizes, batch = sizes | more[0], batch | more[1]
    return PermutationSpec({"params": axes}, sizes, batch=batch, fixed={"layers": depth} if scan else {})


def described(options):
    """The part of a config that stands for the options of blocks."""
    return {k: v for k, v in options._asdict().items() if k not in ("causal", "rotary")}


def vit(options, dim, scan=False):
    bias = options.norm == "layer"
    axes = {"patches": conv(None, "r"), "positions": Axes(None, "r"), "head": dense("r", None), "norm": norm("r", bias)}
    rest = {"patch": 2, "dim": dim, "depth": 2, "outputs": 3, "scan": scan}
    return Case(
        ViT(block=options, **rest),
        images(4, 6, 2),
        stack(axes, options, dim, 2, scan),
        {"kind": "vit", "shape": [4, 6, 2], **rest, **described(options)},
    )


def transformer(options, dim, tied=False, scan=False):
    """Tokens and positions keep their order; a tied embedding carries the residual stream at both ends."""
    axes = {"embedding": {"embedding": Axes(None, "r")}, "norm": norm("r", options.norm == "layer")}
    if not tied:
        axes["head"] = dense("r", None)
    if not options.rotary:
        axes["positions"] = Axes(None, "r")
    rest = {"vocabulary": 11, "length": 5, "dim": dim, "depth": 2, "tied": tied, "scan": scan}
    return Case(
        Transformer(block=options, **rest),
        np.random.default_rng(7).integers(0, 11, (3, 5), np.int32),
        stack(axes, options, dim, 2, scan),
        {"kind": "transformer", **rest, **described(options), "rotary": options.rotary},
    )


def causal(heads, kv_heads, **options):
    return BlockOptions(heads, kv_heads, 7, **options, causal=True)


CASES: dict[str, Case] = {
    "mlp": mlp(),
    "siren": siren(),
    "cnn": cnn(),
    "vgg": vgg(None),
    "vgg_batch": vgg("batch"),
    "resnet_batch": resnet("batch"),
    "resnet_layer": resnet("layer"),
    "resnet_group": resnet("group"),
    "resnet_bottleneck": resnet("batch", bottleneck=True),
    "densenet": densenet(),
    "unet": unet(),
    "gru": recurrent("gru"),
    "lstm": recurrent("lstm"),
    "lstm_optimized": recurrent("lstm_optimized"),
    "lstm_fused": recurrent("lstm_fused"),
    "gnn": gnn(),
    "mixer": mixer(),
    "vit": vit(BlockOptions(3, 3, 8), 12),
    "vit_fused_scan": vit(BlockOptions(3, 3, 8, fused=True), 12, scan=True),
    "transformer": transformer(causal(3, 3), 12),
    "transformer_tied_scan": transformer(causal(3, 3), 12, tied=True, scan=True),
    "transformer_grouped": transformer(causal(6, 2), 24, tied=True),
    "transformer_fused": transformer(causal(3, 3, fused=True), 12),
    "transformer_rotary_gated": transformer(causal(3, 3, norm="rms", gated=True, rotary=True), 12, tied=True),
    "transformer_rotary_grouped_fused": transformer(causal(6, 2, fused=True, gated=True, rotary=True), 24),
    "transformer_rotary_grouped_scan": transformer(causal(6, 2, norm="rms", gated=True, rotary=True), 24, scan=True),
}
