"""The search of weight matching, on the host: one group after the other is assigned anew, until nothing changes."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.assignment import as_elements, neutral
from dwalign.matching.scores import Pair, Scores, aligned_product, moved_products, sum_own
from dwalign.matching.steps import NOTHING, anchored, improve, neighbours, visited
from dwalign.symmetry import PermutationSpec, kind, random_perms

Perms = dict[str, Any]
# of the objective: a map turns by less and less for hundreds of rounds, in which networks come no closer
SETTLED = 1e-2
ROUNDS = 100
# but a round that gains so much less than the one before is near the end of its way
NEARLY = 0.1
# of the objective, where there are maps: orders of units that answer hardly anything to them change for ever
LEAST = 1e-3
# so many scores cost nobody memory
SMALL = 2**14


class Found(NamedTuple):
    """What a search on the host ends with.

    Attributes:
      perms: the elements.
      scores: `place_products` at these, of those groups of which they are known.
      history: the objective after each sweep, `[sweeps]`.
    """

    perms: Perms
    scores: Scores
    history: np.ndarray


def search(spec: PermutationSpec, pair: Pair, words: Any, begun: Perms | None, restarts: int, sweeps: int) -> Found:
    """The best of all runs, of which the first starts at `begun`, or else from what is fixed.

    Groups that `begun` leaves out start at the identity. All else is drawn by `words`, those of a key.
    """
    own = own_where_small(spec, pair)
    first = anchored(spec, pair, own) if begun is None else jax.tree.map(np.asarray, begun)

    def descend(run):
        rng = generator(words, run)
        return _descend(spec, pair, own, rng, as_elements(spec, random_perms(spec, rng)) if run else first, sweeps)

    # histories never fall
    return max(map(descend, range(restarts)), key=lambda found: found.history[-1])


def generator(words: Any, run: int) -> np.random.Generator:
    """What draws all else in one of several runs."""
    return np.random.default_rng([*np.ravel(0 if words is None else words).tolist(), run])


def _descend(spec, pair, own, rng, perms, sweeps) -> Found:
    blocks = tuple(x.factors for x in pair.a)
    unmoved, beside = neutral(spec), neighbours(spec, blocks)
    maps, others = visited(spec, blocks)
    value = aligned_product(spec, pair, perms)
    # those whose scores have changed since they were assigned; what scores are now, where they are known
    stale, scores, history = {*maps, *others}, {}, []

    def visit(group):
        nonlocal perms, value
        old = unmoved | perms
        found, new, gain, better = improve(spec, pair, own, perms, old, group, scores=scores.pop(group, None))
        for g in new:
            scores.pop(g, None)
        if len(new) == 1:
            scores[group] = found
        stale.difference_update(new)
        if better.ndim:
            new = {g: chosen(np, better, one, old[g]) for g, one in new.items()}
            gain, better = (gain * better).sum(), better.any()
        if better:
            perms, value = perms | new, value + gain
            changed = set().union(*(beside[one] - (new.keys() - {one}) for one in new))
            stale.update(changed)
            for other in changed:
                # large ones must not lie beside their successors
                known = scores.pop(other, None)
                # few are as soon computed anew
                if known is not None and known.size > SMALL and len(new) == 1 and other != group:
                    known = moved_products(spec, pair, perms, other, known, group, old[group])
                    scores.update({} if known is None else {other: known})

    def gain_of(groups):
        before = value
        for group in groups:
            if group in stale:
                visit(group)
        return value - before

    while stale and len(history) < sweeps:
        last = np.inf
        for _ in range(ROUNDS):
            gain = gain_of(maps)
            if not is_worth(gain, last, value):
                break
            last = gain
        gain = gain_of([others[k] for k in rng.permutation(len(others))])
        history.append(value)
        if gain <= least(spec) * abs(value):
            break
    curve = np.full(sweeps, value)
    curve[: len(history)] = history
    return Found(unmoved | perms, scores, curve)


def is_worth(gain: Any, last: Any, value: Any) -> Any:
    """Whether another round of maps is, after one that gained so much, and one before it."""
    return (gain > SETTLED * abs(value)) | ((gain <= NEARLY * last) & (gain > NOTHING * abs(value)))


def least(spec: PermutationSpec) -> float:
    """By how much a sweep must raise the objective for another one to be worth it."""
    return LEAST if is_mapped(spec) else NOTHING


def is_mapped(spec: PermutationSpec) -> bool:
    """Whether units of some group are mixed: at the identity nothing is known of them, and what is beside them."""
    return "orthogonal" in spec.kinds.values()


def chosen(xp: Any, better: Any, new: Any, old: Any) -> Any:
    """Where it is better the new element, by the indices that it is batched over."""
    spread = lambda array: better.reshape(better.shape + (1,) * (array.ndim - better.ndim))
    return jax.tree.map(lambda x, y: xp.where(spread(x), x, y).astype(y.dtype), new, old)


def own_where_small(spec: PermutationSpec, pair: Pair) -> Scores:
    """Own scores, of those groups where they are small, perhaps beside the blocks that they are computed from."""
    source = lambda places: sum(pair.a[place.block].array.size for place in places.own)
    size = lambda group: math.prod(spec.batch_shape(group)) * spec.sizes[group] ** 2
    worth = {g: places for g, places in pair.places.items() if size(g) <= SMALL or size(g) <= source(places) / 4}
    return sum_own(spec, pair._replace(places=worth))


def key_words(key: jax.Array) -> Any:
    """The numbers that a random key is, which may be traced."""
    return jax.random.key_data(key) if kind(key) == "a random key" else key
