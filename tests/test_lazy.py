"""Networks in files: what arrays give, computed one array at a time when it is asked for."""

import jax
import numpy as np
import pytest

import dwalign
from dwalign.files import LazyArray
from dwalign.networks import build
from tests import drawn

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
