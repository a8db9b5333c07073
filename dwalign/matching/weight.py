"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023).

Of arrays that are not traced it is computed on the host: nothing is compiled. Both ways share `_improve`, one step.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from dwalign.assignment import as_elements, best_element, best_score, neutral, score_of, settled
from dwalign.bounds import Count
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import (
    Pair,
    Scores,
    aligned_product,
    match_scores,
    neighbours,
    read_pair,
    sum_inside,
    sum_own,
    sum_products,
)
from dwalign.symmetry import Alignment, PermutationSpec, kind, namespace, random_perms

PyTree = Any
Perms = dict[str, jax.Array]
# of a score, lost in rounding; smaller gains are none, so that ties do not keep the loop running
NOTHING = 1e-6
# of the objective: a map turns by less and less for hundreds of sweeps, in which networks come no closer
SETTLED = 1e-3
# so many scores cost nobody memory
SMALL = 2**14


@method("weight matching", "#0072b2", needs="weights", host=True, count=("restarts", "best of {}"))
def weight_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array | None,
    start: Alignment | None = None,
    restarts: Count = 1,
    sweeps: Count = 100,
) -> Alignment:
    """Match units by the weights they touch, one group at a time, until nothing changes.

    Statistics and arrays that carry no group have no say (`dwalign.symmetry.weight_blocks`).

    Args:
      spec, a, b: what is matched.
      key: draws the order of the groups in every sweep and the restarts, the same whenever it is called, but under jit
        other ones than on the host; None is a key as good as another.
      start: where the first run starts; the identity by default, as in the reference.
      restarts: number of runs, the others from random permutations; the one with the largest objective is returned.
      sweeps: at most so many passes over all groups.

    Returns:
      `history` holds <a, P.b> after each sweep, `[sweeps]`, constant once converged; it never decreases. `scores` are
      the weight-matching scores at the result, through which gradients with respect to a and b flow. What is computed
      on the host comes in NumPy arrays; beside them and the networks it holds a few blocks.
    """
    given = jax.tree.leaves((a, b, key, start))
    run = _traced if any(isinstance(leaf, jax.core.Tracer) for leaf in given) else _on_host
    return run(spec, a, b, key, start, restarts, sweeps)


def objective(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Perms) -> jax.Array:
    """<a, P.b>, summed over all weights that carry a group; the others add a constant."""
    return aligned_product(spec, read_pair(spec, a, b), perms)


class Step(NamedTuple):
    """Groups assigned anew: one, or one with all that are batched over it.

    Attributes:
      scores: `[*batch, n, n]` of the one, before the step.
      elements: the best of these.
      gain: by how much they raise the objective, `[*batch]`.
      better: where that is more than rounding.
    """

    scores: jax.Array
    elements: Perms
    gain: jax.Array
    better: jax.Array


def _improve(
    spec: PermutationSpec, pair: Pair, own: Scores, perms: Perms, old: Perms, group: str, placed: Any = None
) -> Step:
    """The step of a group from `old`; groups that `perms` leaves out are where they were.

    Where `placed` is given only weights count whose other groups are all among these.
    """
    known = functools.partial(_known, spec, pair, placed)
    # only those that others are batched over are matched with any
    if group in spec.outer and (inner := _inner(spec, tuple(block.factors for block in pair.a), group)):
        return _improve_jointly(spec, pair, perms, old, group, inner, known)
    places = pair.places[group]
    add = lambda total, perms, places: sum_products(spec, pair, perms, group, known(places, group), total)
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
    return all(f in placed or f in groups or f not in spec.sizes for f in pair.a[place.block].factors if f is not None)


def _anchored(spec: PermutationSpec, pair: Pair, own: Scores) -> Perms:
    """A start from what is fixed in both networks: one group after the other, by weights beside those before it.

    First comes the group of which most is known.
    """
    perms: Perms = {}
    unmoved, blocks = neutral(spec), tuple(block.factors for block in pair.a)

    def share(group):
        places = [p for g in (group, *_inner(spec, blocks, group)) for kind in pair.places[g] for p in kind]
        groups = (group, *_inner(spec, blocks, group))
        sizes = {p.block: math.prod(pair.a[p.block].array.shape) for p in places}
        known = {p.block for p in places if _is_known(spec, pair, p, groups, perms)}
        return sum(sizes[k] for k in known) / max(sum(sizes.values()), 1)

    while left := [g for g in spec.sizes if g not in perms and set(spec.batch.get(g, ())) <= {*perms, *spec.fixed}]:
        group = max(left, key=share)
        perms |= _improve(spec, pair, own, perms, unmoved, group, perms).elements
    return unmoved | perms


def _chosen(xp: Any, better: Any, new: Any, old: Any) -> Any:
    """Where it is better the new element, by the indices that it is batched over."""
    spread = lambda array: better.reshape(better.shape + (1,) * (array.ndim - better.ndim))
    return jax.tree.map(lambda x, y: xp.where(spread(x), x, y), new, old)


def _own(spec: PermutationSpec, pair: Pair) -> Scores:
    """Own scores, of those groups where they are small, perhaps beside the blocks that they are computed from."""
    source = lambda places: sum(pair.a[place.block].array.size for place in places.own)
    size = lambda group: math.prod(spec.batch_shape(group)) * spec.sizes[group] ** 2
    worth = {g: places for g, places in pair.places.items() if size(g) <= max(SMALL, source(places) / 4)}
    return sum_own(spec, pair._replace(places=worth))


def _on_host(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    pair, rng = read_pair(spec, a, b, xp=np), _generator(key)
    own = _own(spec, pair)
    if start is None:
        begun = _anchored(spec, pair, own) if _is_mapped(spec) else {}
    else:
        begun = jax.tree.map(np.asarray, start_perms(spec, start))
    starts = (as_elements(spec, random_perms(spec, rng)) if run else begun for run in range(restarts))
    runs = (_descend(spec, pair, own, rng, start, sweeps) for start in starts)
    # it never falls, so the largest is the last
    return max(runs, key=lambda found: np.max(found.history))


def _descend(spec, pair, own, rng, perms, sweeps) -> Alignment:
    unmoved, beside = neutral(spec), neighbours(spec, tuple(x.factors for x in pair.a))
    groups, value = _visited(spec, pair), aligned_product(spec, pair, perms)
    # those whose scores have changed since they were assigned
    stale, scores, history = set(groups), {}, []
    while stale and len(history) < sweeps:
        before = value
        for k in rng.permutation(len(groups)):
            if (group := groups[k]) in stale:
                # large ones must not lie beside their successors
                scores.pop(group, None)
                old = unmoved | perms
                found, new, gain, better = _improve(spec, pair, own, perms, old, group)
                if len(new) == 1:
                    scores[group] = found
                stale.remove(group)
                if better.ndim:
                    new = {g: _chosen(np, better, one, old[g]) for g, one in new.items()}
                    gain, better = (gain * better).sum(), better.any()
                if better:
                    perms, value = perms | new, value + gain
                    stale.update(*(beside[g].intersection(groups) for g in new))
        history.append(value)
        if value <= before + _least(spec) * abs(before):
            break
    for group in stale | (set(spec.sizes) - set(scores)):
        scores[group] = sum_products(spec, pair, perms, group, [p for kind in pair.places[group] for p in kind])
    curve = np.full(sweeps, value)
    curve[: len(history)] = history
    return Alignment(unmoved | perms, {g: settled(spec, g, scores[g]) for g in spec.sizes}, curve)


def _visited(spec: PermutationSpec, pair: Pair) -> list[str]:
    """The groups that steps are made of; others move with what they are batched over."""
    blocks = tuple(block.factors for block in pair.a)
    inner = {g for group in spec.outer for g in _inner(spec, blocks, group)}
    return [group for group in spec.sizes if group not in inner]


def _least(spec: PermutationSpec) -> float:
    """By how much a sweep must raise the objective for another one to be worth it."""
    return SETTLED if _is_mapped(spec) else NOTHING


def _is_mapped(spec: PermutationSpec) -> bool:
    """Whether units of some group are mixed: at the identity nothing is known of them, and what is beside them."""
    return "orthogonal" in spec.kinds.values()


def _generator(key) -> np.random.Generator:
    if key is None:
        return np.random.default_rng(0)
    words = jax.random.key_data(key) if kind(key) == "a random key" else key
    return np.random.default_rng(np.asarray(words).ravel())


def _traced(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    run_key, start_key = jax.random.split(jax.random.key(0) if key is None else key)
    pair = read_pair(spec, a, b)
    first = _anchored(spec, pair, _own(spec, pair)) if start is None and _is_mapped(spec) else start_perms(spec, start)
    if restarts == 1:
        perms, history = _search(spec, a, b, run_key, first, sweeps)
    else:
        others = jax.vmap(lambda k: as_elements(spec, random_perms(spec, k)))(jax.random.split(start_key, restarts - 1))
        starts = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, others)
        runs = jax.vmap(lambda k, s: _search(spec, a, b, k, s, sweeps))(jax.random.split(run_key, restarts), starts)
        best = jnp.argmax(runs[1][:, -1])
        perms, history = jax.tree.map(lambda x: x[best], runs)
    return Alignment(perms, match_scores(spec, a, b, perms), history)


def _search(spec, a, b, key, perms, sweeps):
    pair = read_pair(spec, a, b)
    # the search ends in integers, and neither its loop nor sequential_vmap can be linearised
    arrays = jax.lax.stop_gradient([[block.array for block in of] for of in (pair.a, pair.b)])
    filled = lambda of, arrays: tuple(x._replace(array=array) for x, array in zip(of, arrays, strict=True))

    def run(arrays, key, perms):
        one, two = (filled(of, new) for of, new in zip((pair.a, pair.b), arrays, strict=True))
        return _search_one(spec, Pair(one, two, pair.places), key, perms, sweeps)

    # vmapped, every step would solve the problems of all groups, until the slowest pair is done
    return sequential_vmap(run)(arrays, key, perms)


def _search_one(spec, pair, key, perms, sweeps):
    own = _own(spec, pair)

    def improve(group, state):
        perms, value = state
        _, new, gain, better = _improve(spec, pair, own, perms, perms, group)
        chosen = {g: _chosen(jnp, better, one, perms[g]) for g, one in new.items()}
        return {**perms, **chosen}, value + (gain * better).sum()

    # without groups a sweep has no steps, but what a step would be must be known
    groups = _visited(spec, pair)
    branches: list[Any] = [functools.partial(improve, group) for group in groups] or [lambda state: state]

    def sweep(state):
        perms, value, history, count, _ = state
        order = jax.random.permutation(jax.random.fold_in(key, count), len(groups))
        step = lambda state, group: (jax.lax.switch(group, branches, state), None)
        (perms, after), _ = jax.lax.scan(step, (perms, value), order)
        history = jnp.where(jnp.arange(sweeps) >= count, after, history)
        return perms, after, history, count + 1, after > value + _least(spec) * jnp.abs(value)

    value = jnp.asarray(aligned_product(spec, pair, perms))
    begun = (perms, value, jnp.full(sweeps, -jnp.inf, value.dtype), jnp.int32(0), jnp.array(True))
    perms, _, history, _, _ = jax.lax.while_loop(lambda s: s[-1] & (s[-2] < sweeps), sweep, begun)
    return perms, history
