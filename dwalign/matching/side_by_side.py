"""The search of weight matching for many pairs of small networks at once, on the host.

Where groups are small a step is some dozen calls into NumPy, which take about as long for ten pairs as for one. Each
pair goes the way that it goes alone, and stands still where none of its own groups has to be assigned.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dwalign.assignment import as_elements, neutral
from dwalign.matching.scores import Pair, Scores, aligned_products, find_places, sum_own
from dwalign.matching.search import Found, Perms, chosen, generator, least
from dwalign.matching.steps import anchored, improve, neighbours, visited
from dwalign.symmetry import PermutationSpec, random_perms, stacked_block, stacked_spec


def search_side_by_side(
    alone: PermutationSpec, pairs: Pair, words: Any, begun: Perms | None, restarts: int, sweeps: int
) -> Found:
    """What `search` finds for each of many pairs, `[pairs, ...]`, without scores.

    Args:
      alone: of each pair; without maps.
      pairs: their blocks, as those of one pair but with arrays `[pairs, ...]`; at least one.
      words: of a key for each, `[pairs, ...]`; None is the same one for all.
      begun: elements `[pairs, ...]`, `{}` or None, as for `search`.
      restarts, sweeps: as for `search`.
    """
    spec, count = stacked_spec(alone), len(pairs.a[0].array)
    a, b = (tuple(stacked_block(alone, block) for block in blocks) for blocks in (pairs.a, pairs.b))
    pairs = Pair(a, b, find_places(spec, tuple(block.factors for block in a)))
    own = {g: q for g, q in sum_own(spec, pairs).items() if pairs.places[g].own and g not in spec.outer}
    of_each = lambda tree: jax.tree.map(lambda x: np.array(np.broadcast_to(x, (count, *x.shape[1:]))), tree)
    unmoved = of_each(neutral(spec))

    def descend(run):
        rngs = [generator(one, run) for one in ([None] if words is None else words)]
        if run:
            drawn = [as_elements(alone, random_perms(alone, rng)) for rng in rngs]
            first = of_each(jax.tree.map(lambda *ones: np.stack(ones), *drawn))
        else:
            first = anchored(spec, pairs, own, unmoved) if begun is None else begun
        # of the identity nothing has to be moved
        value = aligned_products(spec, pairs, first)
        return _descend(spec, pairs, own, rngs, of_each(unmoved | first), value, sweeps)

    best = descend(0)
    for found in map(descend, range(1, restarts)):
        best = chosen(np, found.history[:, -1] > best.history[:, -1], found, best)
    return best


def _descend(
    spec: PermutationSpec,
    pairs: Pair,
    own: Scores,
    rngs: Sequence[np.random.Generator],
    perms: Perms,
    value: np.ndarray,
    sweeps: int,
) -> Found:
    """The end of each pair's way from these elements and objectives, which are written over."""
    blocks = tuple(block.factors for block in pairs.a)
    beside, (_, groups) = neighbours(spec, blocks), visited(spec, blocks)
    number = {g: k for k, g in enumerate(groups)}
    # those whose scores have changed since they were assigned
    stale = np.ones((len(groups), len(value)), bool)
    active, history = np.ones(len(value), bool), np.empty((len(value), sweeps), value.dtype)

    def visit(group, which):
        some = slice(None) if len(which) == len(value) else which
        old = jax.tree.map(lambda x: x[some], perms)
        known = {g: q[:, some] if spec.kinds[g] == "sign" else q[some] for g, q in own.items() if g == group}
        _, new, gain, better = improve(spec, _some(pairs, group, some, known), known, old, old, group)
        for g, element in new.items():
            for x, y in zip(*map(jax.tree.leaves, (perms[g], chosen(np, better, element, old[g]))), strict=True):
                x[some] = y
        value[some] += (gain * better).reshape(len(which), -1).sum(-1)
        gained = which[better.reshape(len(which), -1).any(-1)]
        for g in new.keys() & number.keys():
            stale[number[g], which] = False
        for g in set().union(*(beside[one] - (new.keys() - {one}) for one in new)):
            stale[number[g], gained] = True

    for done in range(sweeps):
        before, orders = value.copy(), np.stack([rng.permutation(len(groups)) for rng in rngs])
        active &= stale.any(0)
        for turn in orders.T if active.any() else ():
            for k in sorted({*turn.tolist()}):
                if (which := np.flatnonzero(stale[k] & active & (turn == k))).size:
                    visit(groups[k], which)
        history[:, done:] = value[:, None]
        active &= value - before > least(spec) * abs(value)
        if not active.any():
            break
    return Found(perms, {}, history)


def _some(pairs: Pair, group: str, index: Any, known: Scores) -> Pair:
    """Some of the pairs: those of their blocks by which a group is assigned, where `known` are its own scores."""
    if isinstance(index, slice):
        return pairs
    kinds = pairs.places[group][1 if group in known else 0 :]
    used = {place.block for kind in kinds for place in kind}
    one = lambda k, block: block._replace(array=block.array[index]) if k in used else block
    a, b = (tuple(one(*numbered) for numbered in enumerate(blocks)) for blocks in (pairs.a, pairs.b))
    return pairs._replace(a=a, b=b)
