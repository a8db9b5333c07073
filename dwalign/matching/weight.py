"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023).

Of arrays that are not traced it is computed on the host: nothing is compiled. Both ways share `steps.py`.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap

from dwalign.assignment import as_elements, neutral, settled
from dwalign.bounds import Count
from dwalign.files import read_leaf
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import (
    Pair,
    Scores,
    aligned_product,
    match_scores,
    moved_products,
    place_products,
    read_pair,
    sum_own,
)
from dwalign.matching.steps import NOTHING, anchored, improve, neighbours, visited
from dwalign.symmetry import Alignment, PermutationSpec, is_traced, kind, random_perms

PyTree = Any
Perms = dict[str, jax.Array]
# of the objective: a map turns by less and less for hundreds of rounds, in which networks come no closer
SETTLED = 1e-2
ROUNDS = 100
# but a round that gains so much less than the one before is near the end of its way
NEARLY = 0.1
# of the objective, where there are maps: orders of units that answer hardly anything to them change for ever
LEAST = 1e-3
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
      key: draws the order in which groups are assigned in every sweep, and the restarts, the same whenever it is
        called, but under jit other ones than on the host; None is a key as good as another.
      start: where the first run starts; the identity by default, as in the reference.
      restarts: number of runs, the others from random permutations; the one with the largest objective is returned.
      sweeps: at most so many passes over all groups. Those that are mixed by maps turn in rounds of their own, until
        they have settled.

    Returns:
      `history` holds <a, P.b> after each sweep, `[sweeps]`, constant once converged; it never decreases. `scores` are
      the weight-matching scores at the result, through which gradients with respect to a and b flow. What is computed
      on the host comes in NumPy arrays; beside them and the networks it holds a few blocks.
    """
    if is_traced((a, b, key, start)):
        a, b = jax.tree.map(read_leaf, (a, b))
        return _traced(spec, a, b, key, start, restarts, sweeps)
    return _on_host(spec, a, b, key, start, restarts, sweeps)


def objective(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Perms) -> jax.Array:
    """<a, P.b>, summed over all weights that carry a group; the others add a constant."""
    return aligned_product(spec, read_pair(spec, a, b), perms)


def _chosen(xp: Any, better: Any, new: Any, old: Any) -> Any:
    """Where it is better the new element, by the indices that it is batched over."""
    spread = lambda array: better.reshape(better.shape + (1,) * (array.ndim - better.ndim))
    return jax.tree.map(lambda x, y: xp.where(spread(x), x, y), new, old)


def _own(spec: PermutationSpec, pair: Pair) -> Scores:
    """Own scores, of those groups where they are small, perhaps beside the blocks that they are computed from."""
    source = lambda places: sum(pair.a[place.block].array.size for place in places.own)
    size = lambda group: math.prod(spec.batch_shape(group)) * spec.sizes[group] ** 2
    worth = {g: places for g, places in pair.places.items() if size(g) <= SMALL or size(g) <= source(places) / 4}
    return sum_own(spec, pair._replace(places=worth))


def _on_host(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    pair, rng = read_pair(spec, a, b, xp=np), _generator(key)
    own = _own(spec, pair)
    if start is None:
        begun = anchored(spec, pair, own) if _is_mapped(spec) else {}
    else:
        begun = jax.tree.map(np.asarray, start_perms(spec, start))
    starts = (as_elements(spec, random_perms(spec, rng)) if run else begun for run in range(restarts))
    runs: Iterator[Any] = (_descend(spec, pair, own, rng, start, sweeps) for start in starts)
    # histories never fall
    return max(runs, key=lambda found: found.history[-1])


def _descend(spec, pair, own, rng, perms, sweeps) -> Alignment:
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
            new = {g: _chosen(np, better, one, old[g]) for g, one in new.items()}
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
            if not _is_worth(gain, last, value):
                break
            last = gain
        gain = gain_of([others[k] for k in rng.permutation(len(others))])
        history.append(value)
        if gain <= _least(spec) * abs(value):
            break
    for group in spec.sizes.keys() - scores.keys():
        scores[group] = place_products(spec, pair, perms, group)
    curve = np.full(sweeps, value)
    curve[: len(history)] = history
    return Alignment(unmoved | perms, {g: settled(spec, g, scores[g]) for g in spec.sizes}, curve)


def _is_worth(gain: Any, last: Any, value: Any) -> Any:
    """Whether another round of maps is, after one that gained so much, and one before it."""
    return (gain > SETTLED * abs(value)) | ((gain <= NEARLY * last) & (gain > NOTHING * abs(value)))


def _least(spec: PermutationSpec) -> float:
    """By how much a sweep must raise the objective for another one to be worth it."""
    return LEAST if _is_mapped(spec) else NOTHING


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
    first = anchored(spec, pair, _own(spec, pair)) if start is None and _is_mapped(spec) else start_perms(spec, start)
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
    maps, others = visited(spec, tuple(x.factors for x in pair.a))

    def step(group, state):
        perms, value = state
        _, new, gain, better = improve(spec, pair, own, perms, perms, group)
        chosen = {g: _chosen(jnp, better, one, perms[g]) for g, one in new.items()}
        return {**perms, **chosen}, value + (gain * better).sum()

    def turn(carry):
        state, last, _, count = carry
        after = functools.reduce(lambda state, group: step(group, state), maps, state)
        gain = after[1] - state[1]
        return after, gain, _is_worth(gain, last, after[1]), count + 1

    def turned(state):
        begun = state, jnp.full((), jnp.inf, state[1].dtype), jnp.array(True), jnp.int32(0)
        return jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < ROUNDS), turn, begun)[0] if maps else state

    # without groups a sweep has no steps, but what a step would be must be known
    branches: list[Any] = [functools.partial(step, group) for group in others] or [lambda state: state]

    def sweep(carry):
        state, history, count, _ = carry
        begun = turned(state)
        order = jax.random.permutation(jax.random.fold_in(key, count), len(others))
        state, _ = jax.lax.scan(lambda state, k: (jax.lax.switch(k, branches, state), None), begun, order)
        history = jnp.where(jnp.arange(sweeps) >= count, state[1], history)
        return state, history, count + 1, state[1] - begun[1] > _least(spec) * jnp.abs(state[1])

    value = jnp.asarray(aligned_product(spec, pair, perms))
    carry = (perms, value), jnp.full(sweeps, -jnp.inf, value.dtype), jnp.int32(0), jnp.array(True)
    (perms, _), history, _, _ = jax.lax.while_loop(lambda carry: carry[3] & (carry[2] < sweeps), sweep, carry)
    return perms, history
