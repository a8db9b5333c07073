"""VGG (Simonyan and Zisserman 2015), with and without normalisation."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Shape, bounded
from dwalign.networks.convolution import convolve, halve
from dwalign.networks.network import from_module
from dwalign.networks.norm import Norm, make_norm
from dwalign.program import Network

VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ended by 2x2 max-pooling, then dense layers; inputs `[batch, h, w, c]`."""

    stages: Sequence[Sequence[int]]
    widths: Sequence[int]
    outputs: int
    norm: str | None = None

    @nn.compact
    def __call__(self, x, train: bool = False):
        for s, stage in enumerate(self.stages):
            for k, width in enumerate(stage):
                x = nn.Conv(
                    width, (3, 3), use_bias=self.norm is None, conv_general_dilated=convolve, name=f"conv_{s}_{k}"
                )(x)
                x = nn.relu(make_norm(self.norm, train=train, name=f"norm_{s}_{k}")(x))
            x = halve(x)
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"dense_{k}")(x))
        return nn.Dense(self.outputs, name=f"dense_{len(self.widths)}")(x)


@bounded
def vgg(
    shape: Shape = (32, 32, 3),
    stages: Sequence[Sequence[Count]] = VGG11,
    widths: Sequence[Count] = (),
    outputs: Count = 10,
    norm: Norm | None = None,
) -> Network:
    """A VGG; `stages` holds the channels of each stage, `widths` those of dense layers before the last.

    Args:
      shape: of one image `(h, w, c)`; every stage halves it.
      norm: "batch", "layer" or None.
    """
    if min(shape[:2]) < 2 ** len(stages):
        raise ValueError(
            f"vgg: every stage halves the image, so it must measure at least {2 ** len(stages)} pixels a side, "
            f"got shape {tuple(shape)}; use fewer stages"
        )
    config = {
        "kind": "vgg",
        "shape": list(shape),
        "stages": [list(stage) for stage in stages],
        "widths": list(widths),
        "outputs": outputs,
        "norm": norm,
    }
    model = VGG(tuple(map(tuple, stages)), tuple(widths), outputs, norm)
    return from_module(model, np.zeros((1, *shape), np.float32), config)
