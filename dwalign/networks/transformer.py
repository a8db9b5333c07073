"""Transformer blocks, and the decoder-only transformer made of them."""

from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dwalign.bounds import Count, bounded
from dwalign.networks.attention import Attention
from dwalign.networks.network import from_module
from dwalign.networks.norm import Norm, make_norm
from dwalign.program import Network


class BlockOptions(NamedTuple):
    """What the blocks of a transformer are made of.

    Attributes:
      heads, kv_heads, causal, rotary, fused: of `Attention`.
      width: hidden units of the MLP.
      norm: "layer" or "rms".
      gated: the MLP multiplies its units by the SiLU of others (Shazeer 2020) instead of taking their GELU.
    """

    heads: int
    kv_heads: int
    width: int
    norm: str = "layer"
    gated: bool = False
    fused: bool = False
    causal: bool = False
    rotary: bool = False


class Block(nn.Module):
    """Attention and an MLP on `[batch, time, dim]`, both beside a residual connection (pre-norm, Xiong et al. 2020)."""

    options: BlockOptions

    @nn.compact
    def __call__(self, x):
        o, dim = self.options, x.shape[-1]
        attention = Attention(o.heads, o.kv_heads, dim // o.heads, o.causal, o.rotary, o.fused, name="attention")
        x = x + attention(make_norm(o.norm, name="norm_attention")(x))
        h = make_norm(o.norm, name="norm_mlp")(x)
        up = nn.Dense(o.width, name="up")(h)
        up = nn.silu(nn.Dense(o.width, name="gate")(h)) * up if o.gated else nn.gelu(up)
        return x + nn.Dense(dim, name="down")(up)


def apply_blocks(options: BlockOptions, x: jax.Array, depth: int, scan: bool) -> jax.Array:
    """`depth` blocks named `block_0`, ...; with `scan` one `blocks` whose parameters are stacked.

    To be called inside the `__call__` of a module; takes and returns `[batch, time, dim]`.
    """
    if not scan:
        for k in range(depth):
            x = Block(options, name=f"block_{k}")(x)
        return x
    step = nn.scan(
        lambda block, carry: (block(carry), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=depth,
    )
    return step(Block(options, name="blocks"), x)[0]


class Transformer(nn.Module):
    """A causal language model: tokens `[batch, time]` to logits `[batch, time, vocabulary]`.

    Attributes:
      length: the largest time; learned position embeddings are of that length.
      tied: the embedding is also the last layer.
      scan: the blocks are one `nn.scan`, with their parameters stacked.
    """

    vocabulary: int
    length: int
    dim: int
    depth: int
    block: BlockOptions
    tied: bool = False
    scan: bool = False

    @nn.compact
    def __call__(self, x):
        embed = nn.Embed(self.vocabulary, self.dim, name="embedding")
        x = embed(x)
        if not self.block.rotary:
            positions = self.param("positions", nn.initializers.normal(0.02), (self.length, self.dim))
            x = x + positions[None, : x.shape[1]]
        x = apply_blocks(self.block, x, self.depth, self.scan)
        x = make_norm(self.block.norm, name="norm")(x)
        return embed.attend(x) if self.tied else nn.Dense(self.vocabulary, name="head")(x)


def check_heads(name: str, dim: int, heads: int, kv_heads: int, rotary: bool = False) -> None:
    """Raise `ValueError` unless the heads divide the dimension, and the key/value heads the heads."""
    if dim % heads or heads % kv_heads or (rotary and dim // heads % 2):
        raise ValueError(
            f"{name}: heads must divide dim, kv_heads must divide heads, and dim / heads must be even with rotary, "
            f"got dim {dim}, heads {heads}, kv_heads {kv_heads}, rotary {rotary}"
        )


@bounded
def transformer(
    vocabulary: Count = 256,
    length: Count = 64,
    dim: Count = 64,
    depth: Count = 2,
    heads: Count = 4,
    kv_heads: Count | None = None,
    width: Count = 256,
    norm: Norm = "layer",
    gated: bool = False,
    rotary: bool = False,
    tied: bool = False,
    fused: bool = False,
    scan: bool = False,
) -> Network:
    """A decoder-only transformer; for the options see `Transformer`, `BlockOptions` and `Attention`.

    Args:
      dim: of the residual stream; a head has dim / heads units.
      kv_heads: heads of keys and values, as many as `heads` by default.
      norm: "layer" or "rms".
      rotary: rotary instead of learned position embeddings.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    check_heads("transformer", dim, heads, kv_heads, rotary)
    config = {
        "kind": "transformer",
        "vocabulary": vocabulary,
        "length": length,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "kv_heads": kv_heads,
        "width": width,
        "norm": norm,
        "gated": gated,
        "rotary": rotary,
        "tied": tied,
        "fused": fused,
        "scan": scan,
    }
    block = BlockOptions(heads, kv_heads, width, norm, gated, fused, causal=True, rotary=rotary)
    model = Transformer(vocabulary, length, dim, depth, block, tied, scan)
    return from_module(model, np.zeros((1, length), np.int32), config)
