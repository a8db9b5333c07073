"""Convolutional networks that flatten their last feature map into dense layers."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Shape, bounded
from dwalign.networks.convolution import convolve, halve
from dwalign.networks.network import from_module
from dwalign.program import Network


class CNN(nn.Module):
    """3x3 convolutions with ReLU and 2x2 max-pooling, flattened, then dense layers; inputs `[batch, h, w, c]`."""

    channels: Sequence[int]
    widths: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        for k, width in enumerate(self.channels):
            x = nn.relu(nn.Conv(width, (3, 3), conv_general_dilated=convolve, name=f"conv_{k}")(x))
            x = halve(x)
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"dense_{k}")(x))
        return nn.Dense(self.outputs, name=f"dense_{len(self.widths)}")(x)


@bounded
def cnn(
    shape: Shape = (32, 32, 3),
    channels: Sequence[Count] = (16, 32),
    widths: Sequence[Count] = (64,),
    outputs: Count = 10,
) -> Network:
    """A small CNN; `shape` is that of one image, `channels` and `widths` those of its hidden layers.

    Every convolution halves the image, rounding down.
    """
    if min(shape[:2]) < 2 ** len(channels):
        raise ValueError(
            f"cnn: every layer of channels halves the image, so it must measure at least {2 ** len(channels)} pixels "
            f"a side, got shape {tuple(shape)}; use fewer layers"
        )
    config = {
        "kind": "cnn",
        "shape": list(shape),
        "channels": list(channels),
        "widths": list(widths),
        "outputs": outputs,
    }
    return from_module(CNN(tuple(channels), tuple(widths), outputs), np.zeros((1, *shape), np.float32), config)
