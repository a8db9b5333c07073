"""The group of permutations of hidden units: its action on parameters, composition, inverses, random elements.

Convention, used throughout: `aligned = permute(spec, b, perms)` has `aligned[..., i, ...] = b[..., perms[i], ...]`.
The soft version is a doubly stochastic matrix with `P[i, j]` = unit i of a is matched to unit j of b, so that
`P = one_hot(perms)` gives the same result.

>>> import jax.numpy as jnp
>>> from dwalign.symmetry import Axes, PermutationSpec, permute
>>> spec = PermutationSpec({"w": Axes(None, "h0")}, {"h0": 3})
>>> permute(spec, {"w": jnp.array([[10, 20, 30]])}, {"h0": jnp.array([2, 0, 1])})["w"].tolist()
[[30, 10, 20]]

A batched group has one permutation for each index of the factors it is batched over, `[*batch, n]`; these act first,
then the permutation of the axis that they are batched over.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files import put_off, read_leaf
from dwalign.symmetry.axes import SpecError, namespace
from dwalign.symmetry.dtypes import is_traced
from dwalign.symmetry.elements import INDEX, MAPS, act, adjoint, composed, drawn, inverted, is_hard, order_of
from dwalign.symmetry.guards import check_key, check_perms, check_spec
from dwalign.symmetry.lists import with_lists
from dwalign.symmetry.powers import Power
from dwalign.symmetry.spec import Block, PermutationSpec

PyTree = Any
Perms = dict[str, Any]
NO_POWER = Power()


class Move(NamedTuple):
    """A group that acts along an axis of a block.

    Attributes:
      group: its name.
      axis: the number of the axis.
      batch: the axes of the groups that it is batched over.
    """

    group: str
    axis: int
    batch: tuple[int, ...]


def permute(spec: PermutationSpec, params: PyTree, perms: Mapping[str, jax.Array]) -> PyTree:
    """Relabel the hidden units of `params`; in larger groups of symmetries let any element of these act.

    Args:
      spec: what may be permuted.
      params: a tree of arrays that fits the spec.
      perms: for each group integer indices `[*batch, n]` (hard) or a float matrix `[*batch, n, n]` (soft); by the kind
        of the group also a `Monomial`, or a matrix that is a map (`dwalign.symmetry.elements`). Groups that are left
        out stay as they are.

    Returns:
      a tree of the structure of `params`. Hard permutations move values and never change a bit of them; NumPy arrays
      stay on the host unless the permutation is traced. Soft ones average, so that integers become floats; what has no
      average, masks and random keys, goes to the likeliest partner.
    """
    check_spec("permute", spec)
    spec.check(params)
    perms = check_perms("permute", spec, perms)
    if is_traced(perms):
        # no number of a trace is there any more when a file is read
        params = jax.tree.map(read_leaf, params)

    def moved(number, axes, leaf):
        # what stays where it is stays what it is, too
        if axes.names().isdisjoint(perms):
            return leaf
        blocks = lambda array: (permute_block(spec, block, perms).array for block in spec.leaf_blocks(number, array))
        return put_off(lambda array: axes.join(blocks(array)), leaf)

    leaves = zip(range(len(spec.leaves)), spec.leaves, spec.treedef.flatten_up_to(params), strict=True)
    return spec.treedef.unflatten([moved(*leaf) for leaf in leaves])


def permute_block(spec: PermutationSpec, block: Block, perms: Mapping) -> Block:
    """`permute` for one block of `spec.blocks`."""
    if not perms:
        return block
    # batched permutations act first
    return block._replace(array=act_along(spec, block, perms, reversed(moves(spec, block.factors))))


def restore_block(spec: PermutationSpec, block: Block, perms: Mapping) -> Block:
    """The adjoint of `permute_block`; of orders and orthogonal maps the inverse, which brings a to the order of b."""
    back = {g: adjoint(element) for g, element in perms.items()}
    return block._replace(array=act_along(spec, block, back, moves(spec, block.factors)))


def act_along(spec: PermutationSpec, block: Block, perms: Mapping, order: Iterable[Move]) -> Any:
    """The array of a block after elements have acted along some of its axes, one after the other, as `moves` gives."""
    array = block.array
    for group, axis, batch in order:
        if group in perms:
            power = block.powers[axis] if block.powers else NO_POWER
            array = act(array, axis, batch, perms[group], spec.kinds[group], power)
    return array


@functools.lru_cache(4096)
def moves(spec: PermutationSpec, factors: tuple) -> tuple[Move, ...]:
    """The axes that a group moves, each with the axes that it is batched over; those of batched groups come last."""
    batch = lambda group: tuple(factors.index(h) for h in spec.batch.get(group, ()) if h in factors)
    found = [Move(group, axis, batch(group)) for axis, group in enumerate(factors) if group in spec.sizes]
    return tuple(sorted(found, key=lambda move: spec.depth[move.group]))


def identity(spec: PermutationSpec) -> Perms:
    """The neutral element, as NumPy arrays."""
    check_spec("identity", spec)
    return {g: np.tile(np.arange(n, dtype=INDEX), (*spec.batch_shape(g), 1)) for g, n in spec.sizes.items()}


def random_perms(spec: PermutationSpec, key: jax.Array | np.random.Generator) -> Perms:
    """A random element of the group; with a generator of NumPy it is drawn there, in NumPy arrays.

    Orders are uniform, orthogonal maps too (Haar); scales are log-normal around 1, linear maps well conditioned.
    """
    check_spec("random_perms", spec)
    if isinstance(key, np.random.Generator):
        orders = {g: key.permuted(perm, axis=-1) for g, perm in identity(spec).items()}
        return {g: drawn(perm, spec.kinds[g], spec.directions[g], key.standard_normal) for g, perm in orders.items()}
    check_key("random_perms", key)
    shapes = {g: (*spec.batch_shape(g), n) for g, n in spec.sizes.items()}
    # drawn at once: compiling a draw for each group takes longer than all else
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()], dtype=int)
    bits = jax.random.bits(key, (ends[-1] if len(ends) else 0,))
    orders = {
        g: jnp.argsort(bits[end - math.prod(shape) : end].reshape(shape), axis=-1).astype(INDEX)
        for (g, shape), end in zip(shapes.items(), ends, strict=True)
    }
    if not spec.has_kinds:
        return orders
    keys = iter(jax.random.split(jax.random.fold_in(key, 1), 3 * len(orders)))
    normal = lambda shape: jax.random.normal(next(keys), shape)
    return {g: drawn(perm, spec.kinds[g], spec.directions[g], normal) for g, perm in orders.items()}


def permute_batch(spec: PermutationSpec, group: str, array: jax.Array, perms: Perms) -> jax.Array:
    """Move what belongs to the units of a batched group, `[*batch, ...]`, with the groups that it is batched over.

    Plain for a group that is batched over no other group: its array comes back as it is.
    """
    names = spec.batch.get(group, ())
    if not set(names) & set(perms):
        return array
    rest = (None,) * (array.ndim - len(names))
    outer = {g: perm for g, perm in perms.items() if g in names}
    return permute_block(spec, Block(group, (*names, *rest), array), outer).array


def inverse(spec: PermutationSpec, perms: Perms) -> Perms:
    """The element that undoes `perms`: `permute(spec, permute(spec, v, g), inverse(spec, g))` is v.

    Bit for bit where only the order changes; factors and maps are undone up to rounding.
    """
    perms = check_perms("inverse", spec, perms)
    if soft := [g for g, e in perms.items() if not (is_hard(e) or spec.kinds[g] in MAPS)]:
        raise SpecError(f"inverse: soft alignments have none, found them for {soft}; hungarian(scores) gives hard ones")
    return {g: inverted(_move_batch(spec, g, e, perms), spec.kinds[g]) for g, e in perms.items()}


def compose(spec: PermutationSpec, outer: Perms, inner: Perms) -> Perms:
    """The element that acts as `inner` first and `outer` second; both must name the same groups."""
    outer = check_perms("compose", spec, outer, "outer")
    inner = check_perms("compose", spec, inner, "inner")
    if set(outer) != set(inner):
        raise SpecError(f"compose: both elements must name the same groups, got {sorted(outer)} and {sorted(inner)}")
    # groups that others are batched over only change places
    back = inverse(spec, {g: inner[g] for g in spec.outer if g in inner})
    return {g: composed(_move_batch(spec, g, outer[g], back), inner[g]) for g in spec.sizes if g in outer}


def _move_batch(spec: PermutationSpec, group: str, element: Any, perms: Perms) -> Any:
    return jax.tree.map(lambda array: permute_batch(spec, group, array, perms), element)


@with_lists
def to_matrices(perms: Perms) -> Perms:
    """Orders as matrices, `[*batch, n]` to `[*batch, n, n]`, factors left out; what is a matrix stays as it is."""

    def one(element):
        order = order_of(element)
        if not is_hard(order):
            return order
        n = order.shape[-1]
        return np.eye(n, dtype=np.float32)[order] if namespace(order) is np else jax.nn.one_hot(order, n)

    return {g: one(element) for g, element in perms.items()}


@with_lists
def transpose(spec: PermutationSpec, matrices: Perms, plans: Perms | None = None) -> Perms:
    """Swap the roles of a and b in soft alignments or scores.

    A group batched over others is indexed by the units of b, so these are exchanged for those of a by `plans`, the
    alignment of the others (hard or soft; `matrices` by default). Exact where that is hard.
    """
    plans = matrices if plans is None else plans
    return {g: _move_batch(spec, g, adjoint(matrix), plans) for g, matrix in matrices.items()}
