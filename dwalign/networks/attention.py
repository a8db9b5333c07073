"""Self-attention with grouped queries and rotary embeddings, on arrays `[batch, time, heads, units]`."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def rotate(x: jax.Array) -> jax.Array:
    """Rotary position embeddings of `[batch, time, heads, units]` (Su et al. 2021), pairs one half apart."""
    time, half = x.shape[1], x.shape[-1] // 2
    angles = jnp.arange(time)[:, None] * (10_000.0 ** (-jnp.arange(half) / half))[None]
    cos, sin = jnp.cos(angles)[None, :, None], jnp.sin(angles)[None, :, None]
    one, two = x[..., :half], x[..., half:]
    return jnp.concatenate([one * cos - two * sin, one * sin + two * cos], axis=-1)


class Attention(nn.Module):
    """Queries of `heads` heads, of which every `heads / kv_heads` neighbours share keys and values.

    Attributes:
      units: of a head, for queries and keys as for values.
      causal: no position sees those behind it.
      rotary: rotates queries and keys by their position; needs an even number of units.
      fused: one kernel for queries, keys and values, side by side.
    """

    heads: int
    kv_heads: int
    units: int
    causal: bool = False
    rotary: bool = False
    fused: bool = False

    @nn.compact
    def __call__(self, x):
        dim, counts = x.shape[-1], (self.heads, self.kv_heads, self.kv_heads)
        if self.fused:
            fused = nn.Dense(sum(counts) * self.units, name="qkv")(x)
            borders = [self.heads * self.units, (self.heads + self.kv_heads) * self.units]
            parts = jnp.split(fused, borders, axis=-1)
            q, k, v = (
                part.reshape(*x.shape[:-1], count, self.units) for part, count in zip(parts, counts, strict=True)
            )
        else:
            q, k, v = (
                nn.DenseGeneral((count, self.units), name=name)(x)
                for name, count in zip(("query", "key", "value"), counts, strict=True)
            )
        if self.rotary:
            q, k = rotate(q), rotate(k)
        q = q.reshape(*q.shape[:2], self.kv_heads, self.heads // self.kv_heads, self.units)
        scores = jnp.einsum("btkgu,bsku->bkgts", q, k) / jnp.sqrt(self.units)
        if self.causal:
            time = x.shape[1]
            mask = jnp.arange(time)[:, None] >= jnp.arange(time)[None]
            scores = jnp.where(mask[None, None, None], scores, -1e9)
        mixed = jnp.einsum("bkgts,bsku->btkgu", nn.softmax(scores, axis=-1), v)
        return nn.DenseGeneral(dim, axis=(-2, -1), name="out")(mixed.reshape(*x.shape[:2], self.heads, self.units))
