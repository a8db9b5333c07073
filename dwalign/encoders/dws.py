"""The encoder of the Deep-Align paper: stacked affine layers that are equivariant between all weight and bias spaces.

One rule gives every equivariant linear map. A source is read down to some of its permuted axes (the kept ones stay
aligned, the others are pooled), mixed over channels, and written along the same axes of a target (broadcast over the
others). Where a group sits on several axes of one array, axes may also be tied (diagonals) and kept in any order; a
group that is batched over another factor can only be kept together with that factor. Between two spaces that share k
groups, each once, that makes 2^k maps: identity or pool-and-broadcast on each.

Source: Navon et al., "Equivariant Architectures for Learning in Deep Weight Spaces", ICML 2023 (DWSNets), and
"Equivariant Deep Weight Space Alignment", ICML 2024.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.encoders.registry import EncoderShape, encoder
from dwalign.program import Network
from dwalign.symmetry import PermutationSpec, SpecError, weight_blocks

EPS = 1e-6
POOLINGS = {"mean": jnp.mean, "max": jnp.max}
Names = tuple[str, ...]


class View(NamedTuple):
    """Some axes of a space: `ties` partitions them into axes that share one index, `kept` names the ties that stay."""

    ties: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]


class DWSEncoder(nn.Module):
    """A G-equivariant encoder with all equivariant affine maps between all arrays of the input network.

    Fixed axes carry no symmetry: their positions count as channels, mixed by dense maps.

    Attributes:
      spec: what may be permuted.
      features: d of the result, group to `[*batch, n, d]`.
      channels: of every weight and bias space in the hidden layers.
      depth: number of hidden layers; one more maps weight spaces to activation spaces, as in the paper.
      pooling: "mean" or "max".
      fixed_rank: fixed axes that are longer (pixels of the input) are first projected to this many positions.
      per_position: `channels` for every fixed position, as in the paper, instead of for all positions of an array
        together; takes many times the parameters.
    """

    spec: PermutationSpec
    features: int = 128
    channels: int = 32
    depth: int = 4
    pooling: str = "mean"
    fixed_rank: int = 64
    per_position: bool = False

    @nn.compact
    def __call__(self, params):
        if self.spec.has_kinds:
            raise SpecError(
                "dws: its maps pool over units, which only the order of these may leave open, found groups of kinds "
                f"{sorted(set(self.spec.kinds.values()))}; take the graph or the probe encoder, or spec.with_kinds()"
            )
        if self.pooling not in POOLINGS:
            raise ValueError(f"dws: pooling must be one of {sorted(POOLINGS)}, got {self.pooling!r}")
        spaces, arrays = zip(*(self._space(k, b) for k, b in enumerate(weight_blocks(self.spec, params))), strict=True)
        widths = tuple(self.channels * (x.shape[-1] if self.per_position else 1) for x in arrays)
        for k in range(self.depth):
            layer = EquivariantAffine(self.spec, spaces, spaces, widths, self.pooling, name=f"layer_{k}")
            arrays = [nn.relu(UnitNorm(name=f"norm_{k}_{i}")(x)) for i, x in enumerate(layer(arrays))]
        groups = tuple((*self.spec.batch.get(g, ()), g) for g in self.spec.sizes)
        last = EquivariantAffine(
            self.spec, spaces, groups, (self.features,) * len(groups), self.pooling, name="activations"
        )
        return dict(zip(self.spec.sizes, last(arrays), strict=True))

    def _space(self, k, block) -> tuple[Names, jax.Array]:
        """The names of the axes that carry symmetry and the array `[*axes, fixed positions]`."""
        batched_over = {h for names in self.spec.batch.values() for h in names}
        free = [k for k, f in enumerate(block.factors) if f in self.spec.sizes or f in batched_over]
        fixed = [k for k in range(len(block.factors)) if k not in free]
        x = jnp.transpose(unit_scale(block.array), (*free, *fixed))
        for axis in range(len(free), x.ndim):
            if x.shape[axis] > self.fixed_rank:
                init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
                project = self.param(f"project_{k}_{fixed[axis - len(free)]}", init, (x.shape[axis], self.fixed_rank))
                x = jnp.moveaxis(jnp.tensordot(x, project, ((axis,), (0,))), -1, axis)
        return tuple(block.factors[k] for k in free), x.reshape(*x.shape[: len(free)], -1)


class EquivariantAffine(nn.Module):
    """All equivariant affine maps from the `sources` to the `targets`, summed for each target.

    Attributes:
      spec: what may be permuted.
      sources, targets: the names of the axes of each space; arrays are `[*axes, width]`.
      widths: channels of each target.
      pooling: "mean" or "max".
    """

    spec: PermutationSpec
    sources: tuple[Names, ...]
    targets: tuple[Names, ...]
    widths: tuple[int, ...]
    pooling: str = "mean"

    @nn.compact
    def __call__(self, arrays):
        pooled: dict[Names, list[jax.Array]] = {}
        for axes, array in zip(self.sources, arrays, strict=True):
            for names, view in readings(self.spec, axes):
                pooled.setdefault(names, []).append(_read(array, view, POOLINGS[self.pooling]))
        places = [(t, names, view) for t, axes in enumerate(self.targets) for names, view in writings(self.spec, axes)]
        places = [place for place in places if place[1] in pooled]
        terms = [sum(t == place[0] for place in places) for t in range(len(self.targets))]

        out = [self._bias(t, axes) for t, axes in enumerate(self.targets)]
        for names, parts in pooled.items():
            here = [(t, view) for t, signature, view in places if signature == names]
            if not here:
                continue
            x = jnp.concatenate(parts, -1)
            # every target sums `terms` of these, so that its variance stays that of one
            stds = jnp.concatenate([jnp.full(self.widths[t], (x.shape[-1] * terms[t]) ** -0.5) for t, _ in here])
            kernel = self.param(
                "kernel_" + ("_".join(names) or "all"),
                lambda key, shape, stds=stds: jax.random.normal(key, shape) * stds[None],
                (x.shape[-1], len(stds)),
            )
            cuts = list(itertools.accumulate(self.widths[t] for t, _ in here))[:-1]
            for (t, view), y in zip(here, jnp.split(x @ kernel, cuts, -1), strict=True):
                out[t] = out[t] + _write(y, view, [self.spec.size(f) for f in self.targets[t]])
        return out

    def _bias(self, t, axes):
        """One value for each channel and position of axes that are not permuted; the same for all units."""
        shape = tuple(self.spec.size(f) if f in self.spec.fixed else 1 for f in axes)
        bias = self.param(f"bias_{t}", nn.initializers.zeros, (*shape, self.widths[t]))
        return jnp.broadcast_to(bias, (*(self.spec.size(f) for f in axes), self.widths[t]))


class UnitNorm(nn.Module):
    """Scales what all units share and how they differ from it to unit size, each by itself.

    Otherwise the shared part grows from layer to layer until all units look alike.
    """

    @nn.compact
    def __call__(self, x):
        learned = lambda name, init: self.param(name, init, (1,) * (x.ndim - 1) + (x.shape[-1],))
        shared = jnp.mean(x, tuple(range(x.ndim - 1)), keepdims=True)
        apart = unit_scale(x - shared) * learned("apart", nn.initializers.ones)
        return (
            apart
            + unit_scale(shared) * learned("shared", nn.initializers.ones)
            + learned("bias", nn.initializers.zeros)
        )


def unit_scale(array: jax.Array) -> jax.Array:
    """The array divided by its root mean square; zeros stay zeros."""
    return array * to_unit(array)


def to_unit(array: jax.Array) -> jax.Array:
    """The number that divides an array by its root mean square."""
    return jax.lax.rsqrt(jnp.mean(array**2) + EPS)


def writings(spec: PermutationSpec, axes: Names) -> Iterator[tuple[Names, View]]:
    """The ways to write into a space with these axes: the names of the kept axes, sorted, and the view."""
    for ties in _partitions(axes):
        for count in range(len(ties) + 1):
            for kept in itertools.combinations(sorted(range(len(ties)), key=lambda k: axes[ties[k][0]]), count):
                names = tuple(axes[ties[k][0]] for k in kept)
                if all(set(spec.batch.get(name, ())) <= set(names) for name in names):
                    yield names, View(ties, kept)


def readings(spec: PermutationSpec, axes: Names) -> Iterator[tuple[Names, View]]:
    """The ways to read a space: as `writings`, with axes of one name in every order."""
    for names, view in writings(spec, axes):
        for kept in itertools.permutations(view.kept):
            if tuple(axes[view.ties[k][0]] for k in kept) == names:
                yield names, view._replace(kept=kept)


def basis(spec: PermutationSpec, source: Names, target: Names) -> list[tuple[View, View]]:
    """All equivariant linear maps between two spaces of one channel, as pairs of a reading and a writing."""
    write = list(writings(spec, target))
    return [(r, w) for names, r in readings(spec, source) for signature, w in write if names == signature]


def _partitions(axes: Names, todo: tuple[int, ...] | None = None) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Every partition of the axes into sets of axes of one name."""
    todo = tuple(range(len(axes))) if todo is None else todo
    if not todo:
        yield ()
        return
    first, *others = todo
    same = [k for k in others if axes[k] == axes[first]]
    for count in range(len(same) + 1):
        for more in itertools.combinations(same, count):
            for rest in _partitions(axes, tuple(k for k in others if k not in more)):
                yield ((first, *more), *rest)


def _read(array, view: View, pool) -> jax.Array:
    """`[*kept, width]`"""
    index = {axis: k for k, tie in enumerate(view.ties) for axis in tie}
    channel = len(view.ties)
    if channel < array.ndim - 1:
        array = jnp.einsum(array, [*(index[a] for a in range(array.ndim - 1)), channel], [*range(channel + 1)])
    pooled = tuple(k for k in range(channel) if k not in view.kept)
    array = pool(array, pooled) if pooled else array
    order = sorted(view.kept)
    return jnp.transpose(array, (*(order.index(k) for k in view.kept), len(order)))


def _write(array, view: View, sizes: list[int]) -> jax.Array:
    """`[*sizes, width]`, up to axes of length 1 that broadcast."""
    order = sorted(range(len(view.kept)), key=lambda k: view.kept[k])
    array = jnp.transpose(array, (*order, array.ndim - 1))
    lengths = {view.ties[k][0] for k in view.kept}
    out = array.reshape(*(n if axis in lengths else 1 for axis, n in enumerate(sizes)), array.shape[-1])
    for tie in view.ties:
        for a, b in itertools.pairwise(tie):
            eye = jnp.eye(sizes[a])
            out = out * eye.reshape(*(n if axis in (a, b) else 1 for axis, n in enumerate(sizes)), 1)
    return out


@encoder("dws")
def _make(network: Network, shape: EncoderShape, probes: Any) -> DWSEncoder:
    if shape.shared:
        raise ValueError("encoder: parts of dws are made for one network and cannot be shared; take graph or probe")
    return DWSEncoder(network.spec, features=shape.features, **shape.given(channels="channels", depth="depth"))
