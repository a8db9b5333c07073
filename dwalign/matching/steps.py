"""Steps of weight matching: a group assigned anew where all others are, and a start where nothing is assigned yet."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from dwalign.assignment import best_element, best_score, neutral, score_of
from dwalign.matching.scores import Pair, Scores, sum_inside, sum_products
from dwalign.symmetry import PermutationSpec, namespace

Elements = dict[str, Any]
# of a score, lost in rounding; smaller gains are none, so that ties do not keep the loop running
NOTHING = 1e-6


class Step(NamedTuple):
    """Groups assigned anew: one, or one with all that are batched over it.

    Attributes:
      scores: `[*batch, n, n]` of the one, before the step.
      elements: the best of these.
      gain: by how much they raise the objective, `[*batch]`.
      better: where that is more than rounding.
    """

    scores: jax.Array
    elements: Elements
    gain: jax.Array
    better: jax.Array


def improve(
    spec: PermutationSpec,
    pair: Pair,
    own: Scores,
    perms: Elements,
    old: Elements,
    group: str,
    placed: Any = None,
    scores: Any = None,
) -> Step:
    """The step of a group from `old`; groups that `perms` leaves out are where they were.

    Where `placed` is given only weights count whose other groups are all among these. `scores` are those before the
    step where they are known, of a group that sits on no array twice.
    """
    known = functools.partial(_known, spec, pair, placed)
    # only those that others are batched over are matched with any
    if group in spec.outer and (inner := _inner(spec, tuple(block.factors for block in pair.a), group)):
        return _improve_jointly(spec, pair, perms, old, group, inner, known)
    places = pair.places[group]
    add = lambda total, perms, places: sum_products(spec, pair, perms, group, known(places, group), total)
    linear = scores
    if linear is None:
        linear = add(own.get(group), perms, places.shared if group in own else places.own + places.shared)
    here = add(linear, perms, places.first) if places.first else linear
    scores = add(here, perms, places.again) if places.again else here
    new = best_element(spec, group, scores)
    # the best element for the linearised score need not raise the score itself
    there = add(linear, perms | {group: new}, places.first) if places.first else linear
    value = score_of(spec, group, here, old[group])
    gain = score_of(spec, group, there, new) - value
    return Step(scores, {group: new}, gain, gain > NOTHING * abs(value))


def _improve_jointly(spec, pair, perms, old, group, inner, known) -> Step:
    """A group with those that are batched over it: heads are compared as they are when their units match best."""
    others = {g: perm for g, perm in perms.items() if g not in (group, *inner)}
    places = {g: tuple(place for kind in pair.places[g] for place in kind) for g in (group, *inner)}
    inside = {place.block for g in inner for place in places[g]}
    outside = known([place for place in places[group] if place.block not in inside], group)
    scores = sum_products(spec, pair, others, group, outside)
    value = score_of(spec, group, scores, old[group])
    found = {}
    for g in inner:
        products = sum_inside(spec, pair, others, group, g, known(places[g], group, g))
        if products is not None:
            found[g] = functools.partial(_of_partners, products, axis=int(spec.kinds[g] == "sign"))
            scores = scores + best_score(spec, g, products)
            value = value + score_of(spec, g, found[g](old[group]), old[g]).sum(-1)
    new = best_element(spec, group, scores)
    gain = score_of(spec, group, scores, new) - value
    elements = {g: best_element(spec, g, products_of(new)) for g, products_of in found.items()}
    return Step(scores, {group: new, **elements}, gain, gain > NOTHING * abs(value))


def _of_partners(array: Any, perm: Any, axis: int = 0) -> Any:
    """Of what there is for each pair, `[*batch, m, m, ...]`, that of each index of b and its partner."""
    axis += perm.ndim - 1
    index = namespace(array, perm).argsort(perm, axis=-1)
    index = index[..., None, :].reshape((1,) * (axis - perm.ndim + 1) + index.shape[:-1] + (1, index.shape[-1]))
    index = index.reshape(index.shape + (1,) * (array.ndim - index.ndim))
    return namespace(array, perm).take_along_axis(array, index, axis).squeeze(axis)


@functools.lru_cache(256)
def _inner(spec: PermutationSpec, blocks: tuple[tuple[str | None, ...], ...], group: str) -> tuple[str, ...]:
    """The groups that are matched together with the one that they are batched over: no two of them share an array."""
    if any(factors.count(group) > 1 for factors in blocks):
        return ()
    whole = {*spec.batch.get(group, ()), group}
    taken: dict[str, set[int]] = {}
    for g in sorted(spec.sizes, key=lambda g: -spec.sizes[g]):
        on = {k for k, factors in enumerate(blocks) if g in factors}
        once = all(blocks[k].count(g) == 1 for k in on)
        if set(spec.batch.get(g, ())) == whole and once and on and not on & set().union(*taken.values()):
            taken[g] = on
    return tuple(taken)


def _known(spec, pair, placed, places, *groups):
    return places if placed is None else [place for place in places if _is_known(spec, pair, place, groups, placed)]


def _is_known(spec, pair, place, groups, placed) -> bool:
    factors = pair.a[place.block].factors
    # beside itself a group is not known before it has been assigned
    alone = {f for f in groups if factors.count(f) == 1}
    return all(f in placed or f in alone or f not in spec.sizes for f in factors if f is not None)


@functools.lru_cache(256)
def visited(spec: PermutationSpec, blocks: tuple[tuple[str | None, ...], ...]) -> tuple[list[str], list[str]]:
    """The groups of which units are mixed, and those of which units are assigned.

    Others are assigned with what they are batched over. Of maps the largest come first: most others hang on these.
    """
    inner = {g for group in spec.outer for g in _inner(spec, blocks, group)}
    maps = [group for group in spec.sizes if spec.kinds[group] == "orthogonal"]
    others = [group for group in spec.sizes if group not in maps and group not in inner]
    return sorted(maps, key=lambda g: -spec.sizes[g]), others


@functools.lru_cache(256)
def neighbours(spec: PermutationSpec, blocks: tuple[tuple[str | None, ...], ...]) -> Mapping[str, frozenset[str]]:
    """For each group those `visited` whose scores depend on its alignment; itself only if it sits on an array twice."""
    maps, others = visited(spec, blocks)
    beside: dict[str, set[str]] = {group: set() for group in spec.sizes}
    for factors in blocks:
        carried = [group for group in factors if group is not None and group in spec.sizes]
        for k, group in enumerate(carried):
            beside[group].update(carried[:k] + carried[k + 1 :])
    return MappingProxyType({group: frozenset(found.intersection((*maps, *others))) for group, found in beside.items()})


def anchored(spec: PermutationSpec, pair: Pair, own: Scores, unmoved: Elements | None = None) -> Elements:
    """A start from what is fixed in both networks: one group after the other, by weights beside those before it.

    First comes the group of which most is known. `unmoved` are the neutral elements, of each of several pairs.
    """
    perms: Elements = {}
    unmoved, blocks = unmoved or neutral(spec), tuple(block.factors for block in pair.a)

    def share(group):
        places = [p for g in (group, *_inner(spec, blocks, group)) for kind in pair.places[g] for p in kind]
        groups = (group, *_inner(spec, blocks, group))
        sizes = {p.block: math.prod(pair.a[p.block].array.shape) for p in places}
        known = {p.block for p in places if _is_known(spec, pair, p, groups, perms)}
        return sum(sizes[k] for k in known) / max(sum(sizes.values()), 1)

    while left := [g for g in spec.sizes if g not in perms and set(spec.batch.get(g, ())) <= {*perms, *spec.fixed}]:
        group = max(left, key=share)
        perms |= improve(spec, pair, own, perms, unmoved, group, perms).elements
    return unmoved | perms
