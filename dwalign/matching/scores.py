"""The weight-matching scores of all units under the current alignment of their neighbours."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.assignment import hungarian, settled
from dwalign.files import LazyArray
from dwalign.symmetry import (
    Block,
    Move,
    PermutationSpec,
    act_along,
    contract,
    dot,
    inverse,
    moves,
    namespace,
    permute_batch,
    permute_block,
    real,
    restore_block,
    voting_blocks,
    widen,
)

PyTree = Any
Scores = dict[str, jax.Array]
EPS = 1e-12
# on the host so many numbers of a block are widened, moved and multiplied at a time
PIECE = 2**22


class Place(NamedTuple):
    """Where a group sits: the number of a block, and an axis of it."""

    block: int
    axis: int


class Places(NamedTuple):
    """Everywhere a group sits, by what the products there depend on.

    Attributes:
      own: on blocks that carry no other group: no alignment at all.
      shared: beside other groups: their alignment.
      first: on blocks that it sits on more than once, the first time: its own alignment, too.
      again: the other times.
    """

    own: tuple[Place, ...]
    shared: tuple[Place, ...]
    first: tuple[Place, ...]
    again: tuple[Place, ...]


class Pair(NamedTuple):
    """What is matched: the blocks of a and b that vote, as they are stored."""

    a: tuple[Block, ...]
    b: tuple[Block, ...]
    places: Mapping[str, Places]


def read_pair(spec: PermutationSpec, a: PyTree, b: PyTree, *, xp: Any = None) -> Pair:
    """The blocks of two networks, and where on them every group sits; `xp` as in `voting_blocks`."""
    one, two = (tuple(voting_blocks(spec, params, xp=xp)) for params in (a, b))
    return Pair(one, two, find_places(spec, tuple(block.factors for block in one)))


@functools.lru_cache(256)
def find_places(spec: PermutationSpec, blocks: tuple[tuple[str | None, ...], ...]) -> Mapping[str, Places]:
    """Where every group sits on blocks of these factors."""
    places: dict[str, list[list[Place]]] = {group: [[], [], [], []] for group in spec.sizes}
    for number, factors in enumerate(blocks):
        carried = [(axis, group) for axis, group in enumerate(factors) if group is not None and group in spec.sizes]
        several = len({group for _, group in carried}) > 1
        for k, (axis, group) in enumerate(carried):
            seen = sum(other == group for _, other in carried[:k])
            alone = factors.count(group) == 1
            kind = int(several) if alone else 2 + bool(seen)
            places[group][kind].append(Place(number, axis))
    return MappingProxyType({group: Places(*map(tuple, kinds)) for group, kinds in places.items()})


def match_scores(
    spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array], *, own: Scores | None = None
) -> Scores:
    """For each group the inner products of unit i of a and unit j of b over all weights they touch.

    Args:
      spec, a, b: what is matched.
      perms: the current alignment of every group, hard `[*batch, n]` or soft `[*batch, n, n]`; the scores of a group
        use that of the others.
      own: `own_scores(spec, a, b)`, which callers in a loop compute once.

    Returns:
      group to `[*batch, n, n]`, the linear assignment problem of Git Re-Basin's weight matching (Ainsworth et al.
      2023). Differentiable; swapping a and b and transposing `perms` transposes the result.
    """
    return {group: settled(spec, group, q) for group, q in match_products(spec, a, b, perms, own=own).items()}


def match_products(
    spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array], *, own: Scores | None = None
) -> Scores:
    """`match_scores` before the best signs are taken: of a group with signs `[characters, *batch, n, n]`."""
    pair = read_pair(spec, a, b)
    own = sum_own(spec, pair) if own is None else own
    return {group: place_products(spec, pair, perms, group, own[group]) for group in pair.places}


def own_scores(spec: PermutationSpec, a: PyTree, b: PyTree) -> Scores:
    """The part that depends on no alignment: weights between the group and fixed axes."""
    return sum_own(spec, read_pair(spec, a, b))


def sum_own(spec: PermutationSpec, pair: Pair) -> Scores:
    """`own_scores` of a pair."""
    return {group: sum_products(spec, pair, {}, group, places.own) for group, places in pair.places.items()}


def place_products(spec: PermutationSpec, pair: Pair, perms: Scores, group: str, own: Any = None) -> Any:
    """`sum_products` at all places of a group; `own` is the part of `sum_own`, if it is known."""
    own_places, shared, first, again = pair.places[group]
    return sum_products(spec, pair, perms, group, shared + first + again + (() if own is not None else own_places), own)


def sum_products(
    spec: PermutationSpec, pair: Pair, perms: Scores, group: str, places: Sequence[Place], total: Any = None
) -> jax.Array:
    """`total` and the products of all units of a group `[*batch, n, n]` at these places, all else aligned by `perms`.

    Of a group with signs one for each of its characters, `[characters, *batch, n, n]`.

    At one place they are the derivative of <a, P.b> by the permutation there. A score is linear in the permutation of
    a group that sits on no array twice. Otherwise that of its first place on each array, where the others are aligned,
    holds the value, and the sum over all places the derivative.
    """
    for place in places:
        for x, y in _pieces(pair.a[place.block], pair.b[place.block]):
            products = _by_character(spec, group, x, place.axis, _products(spec, x, y, perms, place.axis))
            total = products if total is None else total + products
    if total is None:
        several = (len(spec.characters[group]),) if spec.kinds[group] == "sign" else ()
        total = np.zeros((*several, *spec.batch_shape(group), spec.sizes[group], spec.sizes[group]), np.float32)
    return total


def moved_products(
    spec: PermutationSpec, pair: Pair, perms: Scores, group: str, total: Any, other: str, before: Any
) -> Any:
    """`place_products` of a group from `total`, what they were when `other` was at `before` and all else as in `perms`.

    Products of the units of `other` that have moved alone. None where it may not pay, or where more than order counts.
    """
    if spec.kinds[other] != "permutation" or other in spec.batch or other in spec.outer:
        return None
    moved = np.flatnonzero(perms[other] != before)
    places = [place for place in pair.places[group].shared if other in pair.a[place.block].factors]
    once = not pair.places[group].first and all(pair.a[place.block].factors.count(other) == 1 for place in places)
    if not once or 2 * len(moved) > spec.sizes[other]:
        return None
    for place in places:
        axis = pair.a[place.block].factors.index(other)
        for x, y in _pieces(pair.a[place.block], pair.b[place.block]):
            here = _taken(x, moved, axis)
            new, old = (_taken(y, perm[moved], axis) for perm in (perms[other], before))
            products = _products(spec, here, new._replace(array=new.array - old.array), perms, place.axis)
            total = total + _by_character(spec, group, here, place.axis, products)
    return total


def _taken(block: Block, index: Any, axis: int) -> Block:
    """Some units of a group, as what no group moves."""
    factors = (*block.factors[:axis], None, *block.factors[axis + 1 :])
    return widen(block._replace(array=np.take(block.array, index, axis), factors=factors))


def sum_inside(
    spec: PermutationSpec, pair: Pair, perms: Scores, group: str, inner: str, places: Sequence[Place]
) -> Any:
    """Products of the units of a group inside of every pair of what it is batched over, `[*batch, m, m, n, n]`.

    `inner` is batched over `group`, and `perms` align neither of them. None without a place.
    """
    total = None
    for place in places:
        for x, y in _pieces(pair.a[place.block], pair.b[place.block]):
            products = _products(spec, x, y, perms, x.factors.index(group), place.axis)
            products = _by_character(spec, inner, x, place.axis, products)
            total = products if total is None else total + products
    return total


def _by_character(spec: PermutationSpec, group: str, block: Block, axis: int, products: Any) -> Any:
    if spec.kinds[group] != "sign":
        return products
    characters = spec.characters[group]
    here = np.arange(len(characters)) == characters.index(block.powers[axis].sign)
    return here.astype(np.float32).reshape(-1, *[1] * products.ndim) * products[None]


def aligned_product(spec: PermutationSpec, pair: Pair, perms: Scores) -> jax.Array:
    """<a, P.b> over all blocks that vote."""
    return sum((dot(x, y) for x, y in _aligned(spec, pair, perms)), np.float32(0))


def aligned_products(spec: PermutationSpec, pairs: Pair, perms: Scores) -> jax.Array:
    """`aligned_product` of each of many pairs, `[pairs]`; see `stacked_spec`."""
    product = lambda x, y: contract(x, range(x.ndim), y, range(y.ndim), [0])
    return sum((product(x, y) for x, y in _aligned(spec, pairs, perms)), np.float32(0))


def _aligned(spec: PermutationSpec, pair: Pair, perms: Scores) -> Iterator[tuple[Any, Any]]:
    pieces = (piece for x, y in zip(pair.a, pair.b, strict=True) for piece in _pieces(x, y))
    return ((real(x.array), real(permute_block(spec, y, perms).array)) for x, y in pieces)


def feature_scores(spec: PermutationSpec, features_a: Scores, features_b: Scores) -> Scores:
    """Cosines of the features of every unit of a and every unit of b, as `best_element` takes them.

    Features are `[*batch, n, d]`; of a group with signs `[*batch, n, characters, d]`, so that scores are those of each
    character and their sum under the best signs is a cosine. The axes of an orthogonal group have one length together,
    the root of their number. A group that is batched over others compares what these match: units of one head with
    those of its partner.
    """
    scores: Scores = {}
    for level in spec.levels:
        partners = inverse(spec, hungarian({g: q for g, q in scores.items() if g in spec.outer}))
        for g in level:
            x, y = permute_batch(spec, g, features_a[g], partners), features_b[g]
            x, y = (_unit(side, *_axes_of_unit(spec, g)) for side in (x, y))
            if spec.kinds[g] == "sign":
                scores[g] = jnp.einsum("...icd,...jcd->c...ij", x, y)
            else:
                cosines = x @ jnp.swapaxes(y, -1, -2)
                scores[g] = spec.sizes[g] * cosines if spec.kinds[g] == "orthogonal" else cosines
    return {g: scores[g] for g in spec.sizes}


def directions(spec: PermutationSpec, features: Scores) -> Scores:
    """Features of length 1, `[*batch, n, d]` where units are only exchanged: their products are cosines."""
    return {g: _unit(x, *_axes_of_unit(spec, g)) for g, x in features.items()}


def unit_cosines(spec: PermutationSpec, a: PyTree, b: PyTree) -> Iterator[tuple[str, jax.Array]]:
    """For each group the cosines `[*batch, n, n]` of the units of a and of b over all weights they touch.

    b must be aligned to a. One group is computed at a time.
    """
    pair = read_pair(spec, a, b)
    for group, kinds in pair.places.items():
        places = [place for kind in kinds for place in kind]
        products = sum_products(spec, pair, {}, group, places)
        lengths = (_lengths(spec, blocks, group, places) for blocks in (pair.a, pair.b))
        yield group, products / functools.reduce(lambda x, y: x[..., :, None] * y[..., None, :], lengths)


def _lengths(spec: PermutationSpec, blocks: Sequence[Block], group: str, places: Sequence[Place]) -> jax.Array:
    """The lengths `[*batch, n]` of the vectors that `sum_products` multiplies."""
    squares = np.float32(EPS)
    for number, axis in places:
        block = widen(blocks[number])
        axes = tuple(range(block.array.ndim))
        kept = (*map(block.factors.index, spec.batch.get(group, ())), axis)
        squares = squares + contract(block.array, axes, block.array, axes, kept)
    return squares**0.5 + np.zeros((*spec.batch_shape(group), spec.sizes[group]), np.float32)


def _axes_of_unit(spec: PermutationSpec, group: str) -> tuple[int, ...]:
    """The axes of features over which they have one length."""
    return (-1,) if spec.kinds[group] == "permutation" else (-2, -1)


def _unit(x, *axes):
    return x * jax.lax.rsqrt(jnp.sum(x**2, axes, keepdims=True) + EPS)


def _products(spec: PermutationSpec, x: Block, y: Block, perms: Scores, *axes: int) -> jax.Array:
    """Products of the slices of two blocks along some axes, `[*batch, n, n, ...]` with two axes for each of them.

    The batch is that of the first; `perms` must not move along the others.
    """
    plan = _plan(spec, x.factors, x.array.dtype.kind == "c", axes)
    if plan.batch:
        # it moves after the group, so a is brought to the order of b there
        x = restore_block(spec, x, {h: perms[h] for h in plan.batch if h in perms})
    moved = act_along(spec, y, perms, plan.ahead)
    return contract(real(x.array), plan.letters, real(moved), plan.others, plan.out)


class Plan(NamedTuple):
    """How two blocks are multiplied along some axes.

    Attributes:
      batch: what the group of the first is batched over.
      ahead: the axes of b along which others act.
      letters, others, out: the axes of a, of b and of their products, as in `contract`.
    """

    batch: tuple[str, ...]
    ahead: tuple[Move, ...]
    letters: tuple[int, ...]
    others: tuple[int, ...]
    out: tuple[int, ...]


@functools.lru_cache(4096)
def _plan(spec: PermutationSpec, factors: tuple[str | None, ...], is_complex: bool, axes: tuple[int, ...]) -> Plan:
    batch = spec.batch.get(factors[axes[0]] or "", ())
    ahead = (move for move in reversed(moves(spec, factors)) if move.group not in batch and move.axis != axes[0])
    # as `real` gives them
    rank = len(factors) + is_complex
    letters = tuple(range(rank))
    others = tuple(rank + axes.index(k) if k in axes else k for k in letters)
    pairs = (letter for k in axes for letter in (k, others[k]))
    return Plan(batch, tuple(ahead), letters, others, (*map(factors.index, batch), *pairs))


def _pieces(x: Block, y: Block) -> list[tuple[Block, Block]]:
    """Two blocks in parts along the longest anonymous axis: a whole embedding at once would double a checkpoint."""
    if isinstance(x.array, LazyArray) or isinstance(y.array, LazyArray):
        x, y = (block._replace(array=np.asarray(block.array)) for block in (x, y))
    if x.array.size <= PIECE or namespace(x.array, y.array) is not np or None not in x.factors:
        return [(x, y)]
    free = [k for k, factor in enumerate(x.factors) if factor is None]
    axis = max(free, key=lambda k: x.array.shape[k])
    count = min(math.ceil(x.array.size / PIECE), x.array.shape[axis])
    parts = zip(*(np.array_split(block.array, count, axis) for block in (x, y)), strict=True)
    return [(x._replace(array=one), y._replace(array=two)) for one, two in parts]
