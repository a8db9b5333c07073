"""The graph encoder: units are nodes, weights are edges, and a round of messages is a few matrix products."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.encoders.dws import to_unit
from dwalign.encoders.parity import EPS, EVEN, MAPPED, by_character, own_axes, parities, parity, sizes
from dwalign.encoders.registry import EncoderShape, encoder
from dwalign.program import Network
from dwalign.symmetry import (
    Block,
    PermutationSpec,
    as_read,
    block_roles,
    group_roles,
    stack_networks,
    weight_blocks,
)

States = dict[tuple[str, str], jax.Array]
"""Features by group and parity, `[*batch, n, d]`; even ones of a group that may be rotated are `[*batch, 1, d]`."""


class GraphEncoder(nn.Module):
    """A G-equivariant encoder for any spec, of a size that does not depend on the widths of the input networks.

    Each unit starts from norms and means of its rows and columns and from the sums of its weights to fixed axes
    (inputs, outputs, kernel positions), weighted by learned embeddings of their positions. A round adds the messages
    that arrive over the weights: `h_l <- LayerNorm(h_l + MLP[h_l, W_l phi(h_{l-1}), W_{l+1}^T psi(h_{l+1}), s_l])`,
    with s_l the start.

    Where more than the order of units is free, messages change with the signs or the map of the place at which they
    arrive (`dwalign.encoders.parity`). For these the MLP has no biases and gates in place of its non-linearity, made
    from what does not change; it learns their sizes.

    Attributes:
      spec: what may be permuted, of the kinds `dwalign.assignment.MATCHED`.
      features: d of the result, group to `[*batch, n, d]`; of kind "sign" one vector for each of `spec.characters`,
        `[*batch, n, characters, d]`.
      channels: width of the hidden states; features of an axis that may be rotated span at most so many dimensions.
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
        blocks = read_blocks(self, params)
        parts = make_parts(self, blocks, self.channels)
        start = {state: x for g in self.spec.sizes for state, x in self._start(g, blocks, parts).items()}
        hidden = message_rounds(self, self.rounds, blocks, parts, start, self.channels)

        def out(g, p):
            return parts.dense(named(f"out_{parts.groups[g]}", p), self.features, p)(hidden[g, p])

        return {g: by_character(self.spec, g, functools.partial(out, g)) for g in self.spec.sizes}

    def _start(self, group, blocks, parts) -> States:
        found = {p: Gathered() for p in parities(self.spec, group)}
        for k, axis in occurrences(blocks, group):
            block, place = blocks[k].block, (parts.blocks[k], axis)
            own = parity(self.spec, block, axis)
            mean, size = _statistics(self.spec, blocks[k], axis)
            found[EVEN].add((*place, "statistics", 2), size)
            # sums over odd axes would depend on signs and bases
            if any(parity(self.spec, block, i) for i in range(block.array.ndim) if i != axis):
                continue
            found[own].add((*place, "statistics", 1), mean)
            if set(block.factors) & (set(self.spec.sizes) - {group}) == set(self.spec.batch.get(group, ())):
                message = _message(self.spec, blocks[k], axis, {}, parts.embeddings[k], self.channels)
                found[own].add((*place, "message", 0), message)
        role = parts.groups[group]

        def start(p):
            # masks alone tell nothing about their units
            units = 1 if p == EVEN and len(own_axes(self.spec, group)) > 1 else self.spec.sizes[group]
            told = found[p].means() or [jnp.zeros((*self.spec.batch_shape(group), units, 1))]
            x = parts.dense(named(f"start_{role}", p), self.channels, p)(jnp.concatenate(told, -1))
            return parts.norm(named(f"start_norm_{role}", p), own_axes(self.spec, group) if p else None)(x)

        return {(group, p): start(p) for p in found}


class Parts(NamedTuple):
    """What a network's groups and blocks are called, and what is learned under these names.

    Attributes:
      groups, blocks: roles.
      embeddings: for each block and fixed axis a vector for each position.
      dense: `(name, width, parity)` to a layer, the same one for the same name; without biases for odd features.
      norm: `(name, axes)` likewise; odd features are divided by their size over these axes, even ones have none.
    """

    groups: dict[str, str]
    blocks: list[str]
    embeddings: list[dict[int, jax.Array]]
    dense: Callable
    norm: Callable


class Scaled(NamedTuple):
    """A block as it is stored, and the number that brings its weights to one scale.

    Sums over weights are scaled in place of the weights, of which there are many times more.
    """

    block: Block
    scale: jax.Array


def read_blocks(module: nn.Module, params: Any) -> list[Scaled]:
    """The weights that `module` sends messages over."""
    blocks = as_read(module.spec, weight_blocks(module.spec, params), shared=module.shared)
    return [Scaled(block, to_unit(block.array)) for block in blocks]


def named(name: str, parity: str) -> str:
    """What belongs to features of this parity; even ones keep the name."""
    return f"{name}_odd_{parity}" if parity else name


def make_parts(module: nn.Module, blocks: Sequence[Scaled], channels: int, *, outer: bool = True) -> Parts:
    """The parts of `module`, from inside its compact method.

    `outer=False` gives no embeddings to blocks with fewer than two groups, which then send no messages.
    """
    spec, init = module.spec, nn.initializers.normal(1.0)
    roles = block_roles(spec, [block for block, _ in blocks], shared=module.shared)
    positions = functools.cache(lambda name, length: module.param(name, init, (length, channels)))
    embeddings = [
        {
            axis: positions(f"embed_{role}_{axis}", block.array.shape[axis])
            for axis, factor in enumerate(block.factors)
            if factor not in spec.sizes and (outer or sum(f in spec.sizes for f in block.factors) > 1)
        }
        for role, (block, _) in zip(roles, blocks, strict=True)
    ]
    dense = functools.cache(lambda name, width, parity: nn.Dense(width, use_bias=parity == EVEN, name=name))
    norm = functools.cache(
        lambda name, axes: nn.RMSNorm(reduction_axes=axes, name=name) if axes else nn.LayerNorm(name=name)
    )
    groups = group_roles(spec, shared=module.shared)
    if module.shared:
        # what is learned for signs is of no use where there are none
        groups = {g: " ".join([role, *parities(spec, g)]).rstrip() for g, role in groups.items()}
    return Parts(groups, roles, embeddings, dense, norm)


class Gathered(dict):
    """Arrays by the place they come from; those from places of one role are averaged."""

    def add(self, place: tuple, array: jax.Array) -> None:
        self.setdefault(place, []).append(array)

    def means(self) -> list[jax.Array]:
        """In an order that depends on the places alone."""
        return [sum(self[place]) / len(self[place]) for place in sorted(self)]


def message_rounds(
    module: nn.Module, count: int, blocks, parts: Parts, start: States, channels: int, *, outer: bool = True
) -> States:
    """`message_round` after round, from inside the compact method of a module; `outer` as for `make_parts`."""
    if count < 2 or module.is_initializing():
        hidden = start
        for r in range(count):
            hidden = message_round(f"round_{r}_", module.spec, blocks, parts, hidden, start, channels)
        return hidden
    # one program for all rounds, which differ in their parameters alone: it is compiled once
    learned = module.variables.get("params", {})
    own = [
        {name.replace(f"_{r}_", "_", 1): x for name, x in learned.items() if name.startswith(f"round_{r}_")}
        for r in range(count)
    ]
    one = _Round(module.spec, channels, module.shared, outer)
    run = lambda hidden, own: (one.apply({"params": {**learned, **own}}, blocks, hidden, start), None)
    return jax.lax.scan(run, start, stack_networks(own), count)[0]


class _Round(nn.Module):
    """A round of messages whose parameters have names without its number."""

    spec: PermutationSpec
    channels: int
    shared: bool
    outer: bool

    @nn.compact
    def __call__(self, blocks, hidden, start):
        parts = make_parts(self, blocks, self.channels, outer=self.outer)
        return message_round("round_", self.spec, blocks, parts, hidden, start, self.channels)


def message_round(name: str, spec, blocks, parts: Parts, hidden: States, extra: States, channels: int) -> States:
    """One round of messages between all groups, of layers that begin with this name; inside a compact method."""
    new: States = {}
    for group in spec.sizes:
        received = {p: Gathered() for p in parities(spec, group)}
        for k, axis in occurrences(blocks, group):
            block, role = blocks[k].block, parts.blocks[k]
            others = [i for i, f in enumerate(block.factors) if i != axis and f in spec.sizes]
            others = [i for i in others if block.factors[i] not in spec.batch.get(group, ())]
            sources = {(block.factors[i], parity(spec, block, i)): i for i in reversed(others)}
            if not sources:
                continue
            sent = {
                (f, p): parts.dense(named(f"{name}{role}_{axis}_{i}", p), channels, p)(hidden[f, p])
                for (f, p), i in sources.items()
            }
            message = _message(spec, blocks[k], axis, sent, parts.embeddings[k], channels)
            received[parity(spec, block, axis)].add((role, axis), message)
        new |= _renewed(name, spec, parts, group, received, hidden, extra, channels)
    return new


def _renewed(name, spec, parts: Parts, group, received, hidden: States, extra: States, channels) -> States:
    """The states of a group after a round: even ones learn the sizes of odd ones, and then gate them."""
    own = lambda p: named(f"{name}{parts.groups[group]}", p)

    def enter(p, *more):
        told = [hidden[group, p], extra[group, p], *received[p].means(), *more]
        return parts.dense(f"{own(p)}_in", channels, p)(jnp.concatenate(told, -1))

    def leave(p, x):
        x = parts.dense(f"{own(p)}_out", channels, p)(x)
        return parts.norm(f"{own(p)}_norm", own_axes(spec, group) if p else None)(hidden[group, p] + x)

    odd = {p: enter(p) for p in received if p != EVEN}
    even = leave(EVEN, nn.gelu(enter(EVEN, *(sizes(spec, group, x) for x in odd.values()))))
    gate = lambda p: nn.sigmoid(parts.dense(f"{own(p)}_gate", channels, EVEN)(even))
    return {(group, p): leave(p, x * gate(p)) for p, x in odd.items()} | {(group, EVEN): even}


def occurrences(blocks: Sequence[Scaled], group: str) -> list[tuple[int, int]]:
    """The blocks and their axes on which the group sits."""
    return [
        (k, axis) for k, (block, _) in enumerate(blocks) for axis, factor in enumerate(block.factors) if factor == group
    ]


def _batch_axes(spec: PermutationSpec, block: Block, axis: int) -> list[int]:
    group = block.factors[axis]
    return [block.factors.index(h) for h in spec.batch.get(group or "", ())]


def _statistics(spec, weights: Scaled, axis: int) -> tuple[jax.Array, jax.Array]:
    """Mean and size over all other axes, `[*batch, n, 1]`; the size is even, and so that of a whole rotated axis."""
    block, scale = weights
    keep = [*_batch_axes(spec, block, axis), axis]
    others = tuple(k for k in range(block.array.ndim) if k not in keep)
    order = [sorted(keep).index(k) for k in keep]
    mean = scale * jnp.mean(block.array, others).transpose(order)
    square = scale**2 * jnp.mean(block.array**2, others).transpose(order)[..., None]
    if parity(spec, block, axis) == MAPPED:
        square = jnp.mean(square, -2, keepdims=True)
    return mean[..., None], jnp.sqrt(square + EPS)


def _message(spec, weights: Scaled, axis: int, sent: States, embedding, channels: int) -> jax.Array:
    """Weights times the features at their other ends, summed: `[*batch, n, channels]`, as odd as the place is."""
    block, scale = weights
    letters = list(range(block.array.ndim))
    channel = block.array.ndim
    keep = [*_batch_axes(spec, block, axis), axis]
    operands: list = [block.array, letters]
    summed = 1
    for k, factor in enumerate(block.factors):
        if k in keep:
            continue
        summed *= block.array.shape[k]
        if (source := (factor, parity(spec, block, k))) in sent:
            batch = [block.factors.index(h) for h in spec.batch.get(factor, ())]
            operands += [sent[source], [*batch, k, channel]]
        elif k in embedding:
            operands += [embedding[k], [k, channel]]
    factor = scale / jnp.sqrt(summed)
    if len(operands) == 2:
        total = factor * jnp.einsum(*operands, keep)[..., None]
        return jnp.broadcast_to(total, (*(block.array.shape[k] for k in keep), channels))
    return factor * jnp.einsum(*operands, [*keep, channel])


@encoder("graph")
def _make(network: Network, shape: EncoderShape, probes: Any) -> GraphEncoder:
    own = shape.given(channels="channels", depth="rounds")
    return GraphEncoder(network.spec, features=shape.features, shared=shape.shared, **own)
