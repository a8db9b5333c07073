"""The vision transformer (Dosovitskiy et al. 2021), read out by the mean over its patches."""

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Shape, bounded
from dwalign.networks.convolution import convolve
from dwalign.networks.network import from_module
from dwalign.networks.norm import Norm, make_norm
from dwalign.networks.transformer import BlockOptions, apply_blocks, check_heads
from dwalign.program import Network


class ViT(nn.Module):
    """Patches of images `[batch, h, w, c]` through transformer blocks to logits `[batch, outputs]`."""

    patch: int
    dim: int
    depth: int
    outputs: int
    block: BlockOptions
    scan: bool = False

    @nn.compact
    def __call__(self, x):
        size = (self.patch, self.patch)
        x = nn.Conv(self.dim, size, size, "VALID", conv_general_dilated=convolve, name="patches")(x)
        x = x.reshape(x.shape[0], -1, self.dim)
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:])[None]
        x = apply_blocks(self.block, x, self.depth, self.scan)
        x = make_norm(self.block.norm, name="norm")(x)
        return nn.Dense(self.outputs, name="head")(x.mean(1))


@bounded
def vit(
    shape: Shape = (32, 32, 3),
    patch: Count = 4,
    dim: Count = 64,
    depth: Count = 4,
    heads: Count = 4,
    kv_heads: Count | None = None,
    width: Count = 128,
    outputs: Count = 10,
    norm: Norm = "layer",
    gated: bool = False,
    fused: bool = False,
    scan: bool = False,
) -> Network:
    """A vision transformer; for the options of its blocks see `BlockOptions` and `Attention`.

    Args:
      shape: of one image `(h, w, c)`; `patch` must divide its sides.
      dim: of the residual stream; a head has dim / heads units.
      kv_heads: heads of keys and values, as many as `heads` by default.
      width: hidden units of the MLPs.
      norm: "layer" or "rms".
    """
    kv_heads = heads if kv_heads is None else kv_heads
    check_heads("vit", dim, heads, kv_heads)
    if shape[0] % patch or shape[1] % patch:
        raise ValueError(f"vit: patch must divide the sides of the image, got patch {patch} and shape {tuple(shape)}")
    config = {
        "kind": "vit",
        "shape": list(shape),
        "patch": patch,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "kv_heads": kv_heads,
        "width": width,
        "outputs": outputs,
        "norm": norm,
        "gated": gated,
        "fused": fused,
        "scan": scan,
    }
    block = BlockOptions(heads, kv_heads, width, norm, gated, fused)
    return from_module(ViT(patch, dim, depth, outputs, block, scan), np.zeros((1, *shape), np.float32), config)
