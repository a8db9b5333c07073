"""Residual networks (He et al. 2016): those for small images, and the deeper ones with bottlenecks."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Shape, Widths, bounded
from dwalign.networks.convolution import convolve
from dwalign.networks.network import from_module
from dwalign.networks.norm import Norm, make_norm
from dwalign.program import Network


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels out; a 1x1 shortcut where shapes change."""

    width: int
    stride: int
    norm: str
    groups: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x, train: bool = False):
        last = 4 * self.width if self.bottleneck else self.width
        layers = (
            [(self.width, 1, 1), (self.width, 3, self.stride), (last, 1, 1)]
            if self.bottleneck
            else [(self.width, 3, self.stride), (last, 3, 1)]
        )
        h = x
        for k, (width, size, stride) in enumerate(layers):
            h = nn.Conv(
                width, (size, size), (stride, stride), use_bias=False, conv_general_dilated=convolve, name=f"conv_{k}"
            )(h)
            h = make_norm(self.norm, train=train, groups=self.groups, name=f"norm_{k}")(h)
            h = nn.relu(h) if k < len(layers) - 1 else h
        if x.shape != h.shape:
            x = nn.Conv(
                last, (1, 1), (self.stride, self.stride), use_bias=False, conv_general_dilated=convolve, name="shortcut"
            )(x)
            x = make_norm(self.norm, train=train, groups=self.groups, name="norm_shortcut")(x)
        return nn.relu(x + h)


class ResNet(nn.Module):
    """Stages of residual blocks, each with twice the channels of the one before; inputs `[batch, h, w, c]`."""

    width: int
    blocks: Sequence[int]
    outputs: int
    norm: str = "batch"
    groups: int = 8
    bottleneck: bool = False
    large: bool = False

    @nn.compact
    def __call__(self, x, train: bool = False):
        size, stride = (7, 2) if self.large else (3, 1)
        x = nn.Conv(
            self.width, (size, size), (stride, stride), use_bias=False, conv_general_dilated=convolve, name="stem"
        )(x)
        x = nn.relu(make_norm(self.norm, train=train, groups=self.groups, name="norm")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME") if self.large else x
        for s, blocks in enumerate(self.blocks):
            for k in range(blocks):
                stride = 2 if s > 0 and k == 0 else 1
                block = ResidualBlock(
                    self.width * 2**s, stride, self.norm, self.groups, self.bottleneck, name=f"block_{s}_{k}"
                )
                x = block(x, train)
        return nn.Dense(self.outputs, name="head")(x.mean((1, 2)))


@bounded
def resnet(
    shape: Shape = (32, 32, 3),
    width: Count = 16,
    blocks: Widths = (3, 3, 3),
    outputs: Count = 10,
    norm: Norm = "batch",
    groups: Count = 8,
    bottleneck: bool = False,
    large: bool = False,
) -> Network:
    """A residual network.

    Args:
      shape: of one image `(h, w, c)`.
      width: channels of the first stage; every stage after it has twice as many and half the resolution.
      blocks: of each stage.
      norm: "batch", "layer" or "group", the latter with so many `groups`.
      bottleneck: blocks of three convolutions, as in ResNet50.
      large: the stem for large images, a strided 7x7 convolution and max-pooling.
    """
    if norm == "group" and width % groups:
        raise ValueError(f"resnet: groups must divide width, got {groups} groups and width {width}")
    config = {
        "kind": "resnet",
        "shape": list(shape),
        "width": width,
        "blocks": list(blocks),
        "outputs": outputs,
        "norm": norm,
        "groups": groups,
        "bottleneck": bottleneck,
        "large": large,
    }
    model = ResNet(width, tuple(blocks), outputs, norm, groups, bottleneck, large)
    return from_module(model, np.zeros((1, *shape), np.float32), config)


@bounded
def resnet20(
    shape: Shape = (32, 32, 3),
    width: Count = 16,
    depth: Count = 20,
    outputs: Count = 10,
    norm: Norm = "batch",
    groups: Count = 8,
) -> Network:
    """The residual network for small images with `depth` = 6 n + 2 layers in three stages."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"resnet20: depth must be 6 n + 2 (8, 14, 20, 32, ...), got {depth}")
    return resnet(shape, width, ((depth - 2) // 6,) * 3, outputs, norm, groups)


@bounded
def resnet50(shape: Shape = (224, 224, 3), width: Count = 64, outputs: Count = 1000, norm: Norm = "batch") -> Network:
    """ResNet50, at its published size by default; nothing is computed before `init`."""
    return resnet(shape, width, (3, 4, 6, 3), outputs, norm, bottleneck=True, large=True)
