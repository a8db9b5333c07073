"""The laws of Deep-Align on all kinds of structure, for parameters drawn at random: it does not know what it aligns."""

import functools
import math

import chex
import jax
import numpy as np
import pytest

from dwalign.deepalign import Aligner, DeepAlign, deep_align
from dwalign.encoders import GraphEncoder, ProbeEncoder
from dwalign.program import infer_spec, make_capture
from dwalign.symmetry import Axes, PermutationSpec, Sum, compose, inverse
from tests import drawn
from tests.deepalign.untrained import related, untrained
from tests.networks.declared import CASES, traced
from tests.nights import long

# the graph encoder sees a spec alone: small ones have everything that a spec can say
SPECS = {
    # what group normalisation makes of a residual block: groups of units before and after one array, and on both sides
    "nested": PermutationSpec(
        {
            "stem": Axes(None, ("g", "u")),
            "norm": Axes(("g", "u")),
            "inner": Axes(("g", "u"), ("k", "w")),
            "back": Axes(("k", "w"), ("g", "u")),
            "head": Axes(("g", "u"), None),
        },
        {"g": 3, "u": 2, "k": 2, "w": 4},
        batch={"u": ("g",), "w": ("k",)},
    ),
    # concatenated groups on kernels and statistics, a group on both sides of an array, units at several positions
    "joined": PermutationSpec(
        {
            "params": {
                "stem": Axes(None, "s"),
                "conv": Axes("s", "a"),
                "norm": Axes(Sum("s", "a")),
                "joined": Axes(Sum("s", "a"), "d"),
                "cell": Axes("d", "d"),
                "head": Axes((3, "d"), None),
            },
            "batch_stats": {"var": Axes(Sum("s", "a"))},
        },
        {"s": 4, "a": 5, "d": 6},
    ),
    # queries in heads in layers of a scan that share a residual stream
    "heads": PermutationSpec(
        {
            "embedding": Axes(None, "r"),
            "query": Axes("layers", "r", "heads", "queries", None),
            "key": Axes("layers", "r", "heads", None),
            "value": Axes("layers", "r", "heads", "v"),
            "out": Axes("layers", ("heads", "queries"), "v", "r"),
        },
        {"r": 7, "heads": 2, "queries": 3, "v": 4},
        batch={"heads": ("layers",), "queries": ("layers", "heads"), "v": ("layers", "heads")},
        fixed={"layers": 2},
    ),
}
# the probe encoder sees what units answer: at pixels, to tokens in heads in a scan over layers
SHORT = (*(f"graph {name}" for name in SPECS), "probe cnn", "probe transformer_tied_scan")
# networks whose specs say the same, and units at steps of a scan
NETWORKS = ("cnn", "densenet", "lstm_fused", "transformer_rotary_grouped_scan", "vit_fused_scan")
LONG = (*(f"graph {name}" for name in NETWORKS), "probe lstm")


def shapes(name):
    if name not in SPECS:
        return traced(name).params
    spec = SPECS[name]
    size = lambda part: 5 if part == (None,) else math.prod(map(spec.size, part))
    shape = lambda axes: jax.ShapeDtypeStruct([sum(map(size, dim)) for dim in axes.dims], np.float32)
    return jax.tree.map(shape, spec.axes, is_leaf=lambda x: isinstance(x, Axes))


def graph(name):
    spec = SPECS[name] if name in SPECS else CASES[name].spec
    return GraphEncoder(spec, features=8, channels=4, rounds=1)


def probe(name):
    _, example, *_ = CASES[name]
    apply, inputs = traced(name).apply, np.concatenate([example] * 3)
    if np.issubdtype(inputs.dtype, np.floating):
        inputs = inputs + drawn.normal(*inputs.shape, seed=8)
    spec = infer_spec(apply, traced(name).params, example)
    return ProbeEncoder(spec, capture=make_capture(apply), inputs=inputs, features=8, rounds=0)


@pytest.mark.parametrize("name", [*SHORT, *long(*LONG)])
def test_equivariance_swap_and_exactness(name):
    kind, name = name.split()
    encoder = {"graph": graph, "probe": probe}[kind](name)
    model, spec = DeepAlign(encoder.spec, encoder, updates=1), encoder.spec
    a, b = (drawn.weights(shapes(name), seed) for seed in range(2))
    firsts, seconds, (g, h, hidden) = related(spec, a, b, planted=1)
    solve = functools.partial(deep_align, spec, aligner=Aligner(model, untrained(model, a)))
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(solve))(firsts, seconds))
    perms = [jax.tree.map(lambda leaf, k=k: leaf[k], found.perms) for k in range(4)]
    chex.assert_trees_all_equal(perms[1], compose(spec, g, compose(spec, perms[0], inverse(spec, h))))
    chex.assert_trees_all_equal(perms[2], inverse(spec, perms[0]))
    chex.assert_trees_all_equal(perms[3], hidden[0])
    for group in set(spec.sizes) - set(spec.batch):
        q, moved, swapped = found.scores[group][:3]
        np.testing.assert_allclose(moved, q[g[group]][:, h[group]], atol=5e-3)
        np.testing.assert_allclose(swapped, q.T, atol=5e-3)
