"""MLP-Mixer (Tolstikhin et al. 2021)."""

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Shape, bounded
from dwalign.networks.convolution import convolve
from dwalign.networks.network import from_module
from dwalign.program import Network


class Mixer(nn.Module):
    """MLPs over the patches and over the channels in turn, with residual connections; inputs `[batch, h, w, c]`."""

    patch: int
    dim: int
    depth: int
    tokens: int
    width: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        size = (self.patch, self.patch)
        x = nn.Conv(self.dim, size, size, "VALID", conv_general_dilated=convolve, name="patches")(x)
        x = x.reshape(x.shape[0], -1, self.dim)
        for k in range(self.depth):
            h = nn.LayerNorm(name=f"norm_tokens_{k}")(x).swapaxes(1, 2)
            h = nn.gelu(nn.Dense(self.tokens, name=f"tokens_up_{k}")(h))
            x = x + nn.Dense(x.shape[1], name=f"tokens_down_{k}")(h).swapaxes(1, 2)
            h = nn.LayerNorm(name=f"norm_channels_{k}")(x)
            h = nn.gelu(nn.Dense(self.width, name=f"channels_up_{k}")(h))
            x = x + nn.Dense(self.dim, name=f"channels_down_{k}")(h)
        return nn.Dense(self.outputs, name="head")(nn.LayerNorm(name="norm")(x).mean(1))


@bounded
def mixer(
    shape: Shape = (32, 32, 3),
    patch: Count = 4,
    dim: Count = 64,
    depth: Count = 4,
    tokens: Count = 64,
    width: Count = 128,
    outputs: Count = 10,
) -> Network:
    """An MLP-Mixer.

    Args:
      shape: of one image `(h, w, c)`; `patch` must divide its sides.
      dim: channels of the residual stream.
      tokens, width: hidden units of the MLPs over the patches and over the channels.
    """
    if shape[0] % patch or shape[1] % patch:
        raise ValueError(f"mixer: patch must divide the sides of the image, got patch {patch} and shape {tuple(shape)}")
    config = {
        "kind": "mixer",
        "shape": list(shape),
        "patch": patch,
        "dim": dim,
        "depth": depth,
        "tokens": tokens,
        "width": width,
        "outputs": outputs,
    }
    return from_module(Mixer(patch, dim, depth, tokens, width, outputs), np.zeros((1, *shape), np.float32), config)
