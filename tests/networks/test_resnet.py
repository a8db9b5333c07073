"""Residual networks: published sizes, shortcuts where they are needed, and the groups of norm groups."""

import jax
import numpy as np
import pytest

from dwalign.networks import ResNet, resnet, resnet20, resnet50


def count(shapes):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_published_sizes():
    # 0.27 million parameters, those of the two 1x1 shortcuts and their normalisations included
    model = ResNet(16, (3, 3, 3), 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))
    assert count(shapes) == 272_474
    model = ResNet(64, (3, 4, 6, 3), 1000, bottleneck=True, large=True)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32))
    assert count(shapes) == 25_557_032
    shortcuts = [name for name, block in shapes["params"].items() if "shortcut" in block]
    assert shortcuts == ["block_0_0", "block_1_0", "block_2_0", "block_3_0"]


def test_shorthands():
    net = resnet20((8, 8, 1), width=4, depth=14)
    assert net.config["kind"] == "resnet" and net.config["blocks"] == [2, 2, 2] and net.config["width"] == 4
    large = resnet50((32, 32, 3), width=4, outputs=5)
    assert large.config["bottleneck"] and large.config["large"]
    # the stem, four streams, and two groups inside each of the sixteen blocks
    assert len(large.spec.sizes) == 1 + 4 + 2 * 16


@pytest.mark.parametrize(("norm", "expected"), [("batch", True), ("layer", False), ("group", False)])
def test_only_batch_normalisation_has_statistics(norm, expected):
    net = resnet((4, 4, 1), 4, (1, 1), 2, norm, groups=2)
    assert (net.train is not None) == expected
    assert ("batch_stats" in jax.eval_shape(net.init, jax.random.key(0))) == expected
    assert bool(net.spec.batch) == (norm == "group")


def test_errors():
    with pytest.raises(ValueError, match="6 n"):
        resnet20(depth=18)
    with pytest.raises(ValueError, match="groups must divide width"):
        resnet(width=6, norm="group", groups=4)
