"""A small U-Net (Ronneberger et al. 2015): images in, a value or logits for every pixel out."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Shape, Widths, bounded
from dwalign.networks.convolution import halve
from dwalign.networks.network import from_module
from dwalign.program import Network


class UNet(nn.Module):
    """Down by max-pooling, up by transposed convolutions, skips put beside; inputs `[batch, h, w, c]`."""

    channels: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        *levels, bottom = self.channels
        skips = []
        for k, width in enumerate(levels):
            x = nn.relu(nn.Conv(width, (3, 3), name=f"down_{k}")(x))
            skips.append(x)
            x = halve(x)
        x = nn.relu(nn.Conv(bottom, (3, 3), name="bottom")(x))
        for k, width in reversed(list(enumerate(levels))):
            x = nn.ConvTranspose(width, (2, 2), (2, 2), name=f"upsample_{k}")(x)
            x = jnp.concatenate([skips[k], x], axis=-1)
            x = nn.relu(nn.Conv(width, (3, 3), name=f"up_{k}")(x))
        return nn.Conv(self.outputs, (1, 1), name="head")(x)


@bounded
def unet(shape: Shape = (32, 32, 3), channels: Widths = (16, 32, 64), outputs: Count = 1) -> Network:
    """A U-Net; outputs `[batch, h, w, outputs]`.

    Args:
      shape: of one image `(h, w, c)`.
      channels: of each level, the last of which is the bottom; each but the first halves the image.
    """
    factor = 2 ** (len(channels) - 1)
    if len(channels) < 2 or shape[0] % factor or shape[1] % factor:
        raise ValueError(
            f"unet: channels must name at least two levels, and the sides of the image must be multiples of {factor}, "
            f"got channels {tuple(channels)} and shape {tuple(shape)}"
        )
    config = {"kind": "unet", "shape": list(shape), "channels": list(channels), "outputs": outputs}
    return from_module(UNet(tuple(channels), outputs), np.zeros((1, *shape), np.float32), config)
