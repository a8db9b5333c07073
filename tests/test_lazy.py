"""Networks in files: what arrays give, computed one array at a time when it is asked for."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign import Data, evaluation, program, symmetry
from dwalign.files import LazyArray
from dwalign.networks import build
from tests import drawn
from tests.nights import long

NETWORKS = {
    "mlp": dict(kind="mlp", inputs=6, widths=[5, 4], outputs=3),
    "fused and scanned": dict(
        kind="vit", shape=[4, 4, 1], patch=2, dim=8, depth=2, heads=2, width=6, outputs=3, fused=True, scan=True
    ),
}


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_merging_gives_the_same_numbers(config, tmp_path):
    net = build(config)
    arrays = [drawn.weights(net.params, seed) for seed in range(2)]

    def in_file(params, name):
        file = tmp_path / f"{name}.safetensors"
        dwalign.files.write_weights(file, dwalign.files.unbind(params))
        return dwalign.files.bind(dwalign.files.open_weights(file), net.params)

    lazy = [in_file(params, name) for params, name in zip(arrays, "ab", strict=True)]
    expected = dwalign.merge(net, *arrays, "weight_matching", certified=False)
    found = dwalign.merge(net, *lazy, "weight_matching", certified=False)
    assert all(isinstance(leaf, LazyArray) for leaf in jax.tree.leaves(found))
    jax.tree.map(np.testing.assert_array_equal, expected, jax.tree.map(np.asarray, found))
    assert dwalign.distance(net.spec, *lazy) == dwalign.distance(net.spec, *arrays)


def test_nothing_is_read_to_permute_or_to_interpolate():
    net = build(NETWORKS["mlp"])
    unread = lambda leaf: LazyArray(leaf.shape, leaf.dtype, lambda: pytest.fail("nobody asked for it"))
    a, b = (jax.tree.map(unread, net.params) for _ in range(2))
    moved = dwalign.permute(net.spec, b, drawn.perms(net.spec))
    mixed = dwalign.interpolate(net.spec, a, moved, 0.5)
    assert [leaf.shape for leaf in jax.tree.leaves(mixed)] == [leaf.shape for leaf in jax.tree.leaves(net.params)]


NET = build(NETWORKS["mlp"])
A, B = (drawn.weights(NET.params, seed) for seed in range(2))
in_file = lambda leaf: LazyArray(leaf.shape, leaf.dtype, lambda: leaf)
IN_FILES = [jax.tree.map(in_file, params) for params in (A, B)]
X = drawn.normal(16, 6)
DATA = Data(X, np.arange(16) % 3)
PERMS = drawn.perms(NET.spec)
SOFT = symmetry.to_matrices(PERMS)
TAKERS = {
    **{
        method.name: lambda a, b, method=method: dwalign.align(NET, a, b, method, data=DATA).perms
        for method in dwalign.known_methods().values()
        if method.asks != "aligner"
    },
    "the aligner": lambda a, b: dwalign.align(NET, a, b, "auto", data=Data(X)).perms,
    "half traced": lambda a, b: jax.jit(lambda b: dwalign.align(NET, a, b).perms)(jax.tree.map(np.asarray, b)),
    "curve": lambda a, b: dwalign.curve(NET, a, b, DATA, points=3),
    "assess": lambda a, b: evaluation.assess(NET, a, DATA),
    "confidence": lambda a, b: evaluation.confidence(NET, a, b, PERMS),
    "confidence of units": lambda a, b: evaluation.confidence(NET, a, b, PERMS, data=DATA),
    "forecast": lambda a, b: evaluation.forecast(NET, a, b, inputs=X),
    "permute": lambda a, b: jax.jit(lambda perms: dwalign.permute(NET.spec, a, perms))(PERMS),
    "interpolate": lambda a, b: jax.jit(lambda weight: dwalign.interpolate(NET.spec, a, b, weight))(0.3),
    "on_average": lambda a, b: program.on_average(lambda w: NET.apply(w, X), NET.spec, a, b, SOFT),
    "stack_networks": lambda a, b: symmetry.stack_networks([a, b]),
    "merge_many": lambda a, b: dwalign.merge_many(NET, [a, b], how="refinement", data=DATA).params,
    "repair": lambda a, b: dwalign.repair(NET, a, [a, b], DATA),
    "certify": lambda a, b: dwalign.certify(NET.spec, NET.apply, a, X).error,
    "fold_norms": lambda a, b: dwalign.fold_norms(NET, a)[1],
    "canonical": lambda a, b: dwalign.canonical(NET.spec, a),
    "capture": lambda a, b: NET.capture(a, X)[1].pre,
    "network": lambda a, b: dict(dwalign.network(NET.apply, a, X).spec.sizes),
}


# methods that descend read networks by the same functions
LONG = ("sinkhorn", "straight_through")


@pytest.mark.parametrize("name", [*(name for name in TAKERS if name not in LONG), *long(*LONG)])
def test_networks_in_files_are_taken_for_what_they_are(name):
    values = lambda tree: jax.tree.map(np.asarray, tree)
    jax.tree.map(np.testing.assert_array_equal, values(TAKERS[name](A, B)), values(TAKERS[name](*IN_FILES)))
