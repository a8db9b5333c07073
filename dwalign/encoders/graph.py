"""The graph encoder: units are nodes, weights are edges, and a round of messages is a few matrix products."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.encoders.dws import unit_scale
from dwalign.symmetry import Block, PermutationSpec

EPS = 1e-6


class GraphEncoder(nn.Module):
    """A G-equivariant encoder for any spec, of a size that does not depend on the widths of the input networks.

    Each unit starts from norms and means of its rows and columns and from the sums of its weights to fixed axes
    (inputs, outputs, kernel positions), weighted by learned embeddings of their positions. A round adds the messages
    that arrive over the weights: `h_l <- LayerNorm(h_l + MLP[h_l, W_l phi(h_{l-1}), W_{l+1}^T psi(h_{l+1}), s_l])`,
    with s_l the start.

    Attributes:
      spec: what may be permuted.
      features: d of the result, group to `[*batch, n, d]`.
      channels: width of the hidden states.
      rounds: of messages.
    """

    spec: PermutationSpec
    features: int = 128
    channels: int = 64
    rounds: int = 4

    @nn.compact
    def __call__(self, params):
        blocks = [block._replace(array=unit_scale(block.array)) for block in self.spec.blocks(params)]
        embeddings = [embed_positions(self, k, block, self.channels) for k, block in enumerate(blocks)]
        start = {g: self._start(g, blocks, embeddings) for g in self.spec.sizes}
        hidden = start
        for r in range(self.rounds):
            hidden = message_round(self, f"round_{r}", self.spec, blocks, embeddings, hidden, start, self.channels)
        return {g: nn.Dense(self.features, name=f"out_{g}")(h) for g, h in hidden.items()}

    def _start(self, group, blocks, embeddings):
        statics = []
        for block, embedding in zip(blocks, embeddings, strict=True):
            for axis in occurrences(block, group):
                statics.append(_statistics(self.spec, block, axis))
                if set(block.factors) & (set(self.spec.sizes) - {group}) == set(self.spec.batch.get(group, ())):
                    statics.append(_message(self.spec, block, axis, {}, embedding, self.channels))
        x = nn.Dense(self.channels, name=f"start_{group}")(jnp.concatenate(statics, -1))
        return nn.LayerNorm(name=f"start_norm_{group}")(x)


def embed_positions(module: nn.Module, k: int, block: Block, channels: int) -> dict[int, jax.Array]:
    """A learned vector for each position of each fixed axis of the k-th block; for the compact method of `module`."""
    init = nn.initializers.normal(1.0)
    return {
        axis: module.param(f"embed_{k}_{axis}", init, (block.array.shape[axis], channels))
        for axis, factor in enumerate(block.factors)
        if factor not in module.spec.sizes
    }


def message_round(module: nn.Module, name: str, spec, blocks, embeddings, hidden, extra, channels):
    """One round of messages between all groups; called inside the compact method of `module`."""
    new = {}
    for group in spec.sizes:
        inputs = [hidden[group], extra[group]]
        for k, (block, embedding) in enumerate(zip(blocks, embeddings, strict=True)):
            for axis in occurrences(block, group):
                sources = {f for i, f in enumerate(block.factors) if i != axis and f in spec.sizes}
                sources -= set(spec.batch.get(group, ()))
                if not sources:
                    continue
                sent = {f: nn.Dense(channels, name=f"{name}_{k}_{axis}_{f}")(hidden[f]) for f in sorted(sources)}
                inputs.append(_message(spec, block, axis, sent, embedding, channels))
        x = nn.Dense(channels, name=f"{name}_{group}_in")(jnp.concatenate(inputs, -1))
        x = nn.Dense(channels, name=f"{name}_{group}_out")(nn.gelu(x))
        new[group] = nn.LayerNorm(name=f"{name}_{group}_norm")(hidden[group] + x)
    return new


def occurrences(block: Block, group: str) -> list[int]:
    """The axes of the block on which the group sits."""
    return [axis for axis, factor in enumerate(block.factors) if factor == group]


def _batch_axes(spec: PermutationSpec, block: Block, axis: int) -> list[int]:
    group = block.factors[axis]
    return [block.factors.index(h) for h in spec.batch.get(group or "", ())]


def _statistics(spec, block: Block, axis: int) -> jax.Array:
    """Norm and mean over all other axes, `[*batch, n, 2]`."""
    keep = [*_batch_axes(spec, block, axis), axis]
    others = tuple(k for k in range(block.array.ndim) if k not in keep)
    mean = jnp.mean(block.array, others)
    norm = jnp.sqrt(jnp.mean(block.array**2, others) + EPS)
    order = [sorted(keep).index(k) for k in keep]
    return jnp.stack([mean.transpose(order), norm.transpose(order)], -1)


def _message(spec, block: Block, axis: int, sent: dict[str, jax.Array], embedding, channels: int) -> jax.Array:
    """Weights times the features at their other ends, summed: `[*batch, n, channels]`."""
    letters = list(range(block.array.ndim))
    channel = block.array.ndim
    keep = [*_batch_axes(spec, block, axis), axis]
    operands: list = [block.array, letters]
    summed = 1
    for k, factor in enumerate(block.factors):
        if k in keep:
            continue
        summed *= block.array.shape[k]
        if factor in sent:
            batch = [block.factors.index(h) for h in spec.batch.get(factor, ())]
            operands += [sent[factor], [*batch, k, channel]]
        elif k in embedding:
            operands += [embedding[k], [k, channel]]
    if len(operands) == 2:
        return jnp.broadcast_to(
            jnp.einsum(*operands, keep)[..., None], (*(block.array.shape[k] for k in keep), channels)
        ) / jnp.sqrt(summed)
    return jnp.einsum(*operands, [*keep, channel]) / jnp.sqrt(summed)
