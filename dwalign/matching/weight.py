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

from dwalign.assignment import hungarian
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import (
    Pair,
    Scores,
    aligned_product,
    match_scores,
    neighbours,
    read_pair,
    sum_own,
    sum_products,
)
from dwalign.symmetry import Alignment, PermutationSpec, identity, kind, random_perms

PyTree = Any
Perms = dict[str, jax.Array]
# of a score, lost in rounding; smaller gains are none, so that ties do not keep the loop running
NOTHING = 1e-6
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
    restarts: int = 1,
    sweeps: int = 100,
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
    if any(isinstance(leaf, jax.core.Tracer) for leaf in given):
        return _traced(spec, a, b, key, start, restarts, sweeps)
    return _on_host(spec, a, b, key, start, restarts, sweeps)


def objective(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Perms) -> jax.Array:
    """<a, P.b>, summed over all weights that carry a group; the others add a constant."""
    return aligned_product(spec, read_pair(spec, a, b), perms)


class Step(NamedTuple):
    """One group assigned anew.

    Attributes:
      scores: `[*batch, n, n]` before the step.
      perm: the best assignment of these, `[*batch, n]`.
      gain: by how much it raises the objective, `[*batch]`.
      better: where that is more than rounding.
    """

    scores: jax.Array
    perm: jax.Array
    gain: jax.Array
    better: jax.Array


def _improve(spec: PermutationSpec, pair: Pair, own: Scores, perms: Perms, old: jax.Array, group: str) -> Step:
    """The step of a group from `old`; groups that `perms` leaves out are where they were."""
    places = pair.places[group]
    add = lambda total, perms, places: sum_products(spec, pair, perms, group, places, total)
    linear = add(own.get(group), perms, places.shared if group in own else places.own + places.shared)
    here = add(linear, perms, places.first)
    scores = add(here, perms, places.again)
    new = hungarian(scores)
    # the best assignment of the linearised score need not raise the score itself
    there = add(linear, perms | {group: new}, places.first)
    before, after = _picked(here, old), _picked(there, new)
    value = before.sum(-1)
    gain = after.sum(-1) - value
    return Step(scores, new, gain, gain > NOTHING * abs(value))


def _picked(scores, perm):
    rows = scores.reshape(-1, scores.shape[-1])
    return rows[np.arange(len(rows)), perm.reshape(-1)].reshape(perm.shape)


def _own(spec: PermutationSpec, pair: Pair) -> Scores:
    """Own scores, of those groups where they are small, perhaps beside the blocks that they are computed from."""
    source = lambda places: sum(pair.a[place.block].array.size for place in places.own)
    size = lambda group: math.prod(spec.batch_shape(group)) * spec.sizes[group] ** 2
    worth = {g: places for g, places in pair.places.items() if size(g) <= max(SMALL, source(places) / 4)}
    return sum_own(spec, pair._replace(places=worth))


def _on_host(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    pair, rng = read_pair(spec, a, b, xp=np), _generator(key)
    own = _own(spec, pair)
    begun = {} if start is None else jax.tree.map(np.asarray, start_perms(spec, start))
    starts = (random_perms(spec, rng) if run else begun for run in range(restarts))
    runs = (_descend(spec, pair, own, rng, start, sweeps) for start in starts)
    # it never falls, so the largest is the last
    return max(runs, key=lambda found: np.max(found.history))


def _descend(spec, pair, own, rng, perms, sweeps) -> Alignment:
    groups, unmoved, beside = list(spec.sizes), identity(spec), neighbours(spec, tuple(x.factors for x in pair.a))
    value = aligned_product(spec, pair, perms)
    # those whose scores have changed since they were assigned
    stale, scores, history = set(groups), {}, []
    while stale and len(history) < sweeps:
        before = value
        for k in rng.permutation(len(groups)):
            if (group := groups[k]) in stale:
                # large ones must not lie beside their successors
                scores.pop(group, None)
                old = perms.get(group, unmoved[group])
                scores[group], new, gain, better = _improve(spec, pair, own, perms, old, group)
                stale.remove(group)
                if better.any():
                    perms = {**perms, group: np.where(better[..., None], new, old) if better.ndim else new}
                    value = value + (gain * better).sum()
                    stale |= beside[group]
        history.append(value)
        if value <= before + NOTHING * abs(before):
            break
    for group in stale:
        scores[group] = sum_products(spec, pair, perms, group, [p for kind in pair.places[group] for p in kind])
    curve = np.full(sweeps, value)
    curve[: len(history)] = history
    return Alignment(unmoved | perms, {g: scores[g] for g in groups}, curve)


def _generator(key) -> np.random.Generator:
    if key is None:
        return np.random.default_rng(0)
    words = jax.random.key_data(key) if kind(key) == "a random key" else key
    return np.random.default_rng(np.asarray(words).ravel())


def _traced(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    run_key, start_key = jax.random.split(jax.random.key(0) if key is None else key)
    first = start_perms(spec, start)
    if restarts == 1:
        perms, history = _search(spec, a, b, run_key, first, sweeps)
    else:
        others = jax.vmap(lambda k: random_perms(spec, k))(jax.random.split(start_key, restarts - 1))
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
        _, new, gain, better = _improve(spec, pair, own, perms, perms[group], group)
        return (
            {**perms, group: jnp.where(better[..., None], new, perms[group])},
            value + (gain * better).sum(),
        )

    # without groups a sweep has no steps, but what a step would be must be known
    branches: list[Any] = [functools.partial(improve, group) for group in spec.sizes] or [lambda state: state]

    def sweep(state):
        perms, value, history, count, _ = state
        order = jax.random.permutation(jax.random.fold_in(key, count), len(spec.sizes))
        step = lambda state, group: (jax.lax.switch(group, branches, state), None)
        (perms, after), _ = jax.lax.scan(step, (perms, value), order)
        history = jnp.where(jnp.arange(sweeps) >= count, after, history)
        return perms, after, history, count + 1, after > value + NOTHING * jnp.abs(value)

    value = jnp.asarray(aligned_product(spec, pair, perms))
    begun = (perms, value, jnp.full(sweeps, -jnp.inf, value.dtype), jnp.int32(0), jnp.array(True))
    perms, _, history, _, _ = jax.lax.while_loop(lambda s: s[-1] & (s[-2] < sweeps), sweep, begun)
    return perms, history
