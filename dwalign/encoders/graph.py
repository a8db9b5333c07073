"""The graph encoder: units are nodes, weights are edges, and a round of messages is a few matrix products."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.encoders.dws import unit_scale
from dwalign.encoders.registry import EncoderShape, encoder
from dwalign.program import Network
from dwalign.symmetry import Block, PermutationSpec, block_roles, group_roles, weight_blocks

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
      shared: parts of one role (`symmetry.group_roles`) share their parameters, which then fit networks of every width
        and, where these repeat a layer, of every depth.
    """

    spec: PermutationSpec
    features: int = 128
    channels: int = 64
    rounds: int = 4
    shared: bool = False

    @nn.compact
    def __call__(self, params):
        blocks = [block._replace(array=unit_scale(block.array)) for block in weight_blocks(self.spec, params)]
        parts = make_parts(self, blocks, self.channels)
        start = {g: self._start(g, blocks, parts) for g in self.spec.sizes}
        hidden = start
        for r in range(self.rounds):
            hidden = message_round(f"round_{r}", self.spec, blocks, parts, hidden, start, self.channels)
        return {g: parts.dense(f"out_{parts.groups[g]}", self.features)(h) for g, h in hidden.items()}

    def _start(self, group, blocks, parts):
        found = Gathered()
        for k, axis in occurrences(blocks, group):
            block, place = blocks[k], (parts.blocks[k], axis)
            found.add((*place, "statistics"), _statistics(self.spec, block, axis))
            if set(block.factors) & (set(self.spec.sizes) - {group}) == set(self.spec.batch.get(group, ())):
                found.add((*place, "message"), _message(self.spec, block, axis, {}, parts.embeddings[k], self.channels))
        role = parts.groups[group]
        # masks alone tell nothing about their units
        told = found.means() or [jnp.zeros((*self.spec.batch_shape(group), self.spec.sizes[group], 1))]
        x = parts.dense(f"start_{role}", self.channels)(jnp.concatenate(told, -1))
        return parts.norm(f"start_norm_{role}")(x)


class Parts(NamedTuple):
    """What a network's groups and blocks are called, and what is learned under these names.

    Attributes:
      groups, blocks: roles.
      embeddings: for each block and fixed axis a vector for each position.
      dense, norm: `(name, width)` and `(name)` to a layer, the same one for the same name.
    """

    groups: dict[str, str]
    blocks: list[str]
    embeddings: list[dict[int, jax.Array]]
    dense: Callable
    norm: Callable


def make_parts(module: nn.Module, blocks: Sequence[Block], channels: int, *, outer: bool = True) -> Parts:
    """The parts of `module`, from inside its compact method.

    `outer=False` gives no embeddings to blocks with fewer than two groups, which then send no messages.
    """
    spec, init = module.spec, nn.initializers.normal(1.0)
    roles = block_roles(spec, blocks, shared=module.shared)
    positions = functools.cache(lambda name, length: module.param(name, init, (length, channels)))
    embeddings = [
        {
            axis: positions(f"embed_{role}_{axis}", block.array.shape[axis])
            for axis, factor in enumerate(block.factors)
            if factor not in spec.sizes and (outer or sum(f in spec.sizes for f in block.factors) > 1)
        }
        for role, block in zip(roles, blocks, strict=True)
    ]
    dense = functools.cache(lambda name, width: nn.Dense(width, name=name))
    norm = functools.cache(lambda name: nn.LayerNorm(name=name))
    return Parts(group_roles(spec, shared=module.shared), roles, embeddings, dense, norm)


class Gathered(dict):
    """Arrays by the place they come from; those from places of one role are averaged."""

    def add(self, place: tuple, array: jax.Array) -> None:
        self.setdefault(place, []).append(array)

    def means(self) -> list[jax.Array]:
        """In an order that depends on the places alone."""
        return [sum(self[place]) / len(self[place]) for place in sorted(self)]


def message_round(name: str, spec, blocks, parts: Parts, hidden, extra, channels):
    """One round of messages between all groups; called inside the compact method of a module."""
    new = {}
    for group in spec.sizes:
        received = Gathered()
        for k, axis in occurrences(blocks, group):
            block = blocks[k]
            sources = {f: i for i, f in reversed([*enumerate(block.factors)]) if i != axis and f in spec.sizes}
            sources = {f: i for f, i in sources.items() if f not in spec.batch.get(group, ())}
            if not sources:
                continue
            role = parts.blocks[k]
            sent = {f: parts.dense(f"{name}_{role}_{axis}_{i}", channels)(hidden[f]) for f, i in sources.items()}
            received.add((role, axis), _message(spec, block, axis, sent, parts.embeddings[k], channels))
        role = parts.groups[group]
        x = jnp.concatenate([hidden[group], extra[group], *received.means()], -1)
        x = parts.dense(f"{name}_{role}_in", channels)(x)
        x = parts.dense(f"{name}_{role}_out", channels)(nn.gelu(x))
        new[group] = parts.norm(f"{name}_{role}_norm")(hidden[group] + x)
    return new


def occurrences(blocks: Sequence[Block], group: str) -> list[tuple[int, int]]:
    """The blocks and their axes on which the group sits."""
    return [(k, axis) for k, block in enumerate(blocks) for axis, factor in enumerate(block.factors) if factor == group]


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


@encoder("graph")
def _make(network: Network, shape: EncoderShape, probes: Any) -> GraphEncoder:
    own = shape.given(channels="channels", depth="rounds")
    return GraphEncoder(network.spec, features=shape.features, shared=shape.shared, **own)
