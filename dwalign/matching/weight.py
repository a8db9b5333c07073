"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023).

It is computed on the host, where nothing is compiled, by programs for CPUs too; those for accelerators hold it. Both
ways share `steps.py`.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.assignment import as_elements, host_primitive, in_threads, neutral, settled
from dwalign.bounds import Count
from dwalign.files import read_leaf
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import (
    Pair,
    Scores,
    aligned_product,
    find_places,
    match_scores,
    moved_products,
    place_products,
    read_pair,
    sum_own,
)
from dwalign.matching.steps import NOTHING, anchored, improve, neighbours, visited
from dwalign.symmetry import Alignment, Block, PermutationSpec, is_traced, kind, random_perms

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
# so many times a group is assigned until nothing changes
USUAL = 5
# groups of so many units keep the solver busy for longer than the interpreter, which threads wait for
WIDE = 96


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
        called, but on accelerators other ones under jit than on the host; None is a key as good as another.
      start: where the first run starts; the identity by default, as in the reference.
      restarts: number of runs, the others from random permutations; the one with the largest objective is returned.
      sweeps: at most so many passes over all groups. Those that are mixed by maps turn in rounds of their own, until
        they have settled.

    Returns:
      `history` holds <a, P.b> after each sweep, `[sweeps]`, constant once converged; it never decreases. `scores` are
      the weight-matching scores at the result, through which gradients with respect to a and b flow. What is computed
      on the host comes in NumPy arrays; beside them and the networks it holds a few blocks.
    """
    given = None if start is None else start_perms(spec, start)
    if is_traced((a, b, key, start)):
        a, b = jax.tree.map(read_leaf, (a, b))
        return _inside_a_program(spec, a, b, key, given, restarts, sweeps)
    pair = read_pair(spec, a, b, xp=np)
    perms, scores, history = _search(spec, pair, _words(key), given, restarts, sweeps)
    scores |= {g: place_products(spec, pair, perms, g) for g in spec.sizes.keys() - scores.keys()}
    return Alignment(perms, {g: settled(spec, g, scores[g]) for g in spec.sizes}, history)


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


def _search(spec, pair, words, start, restarts, sweeps) -> Found:
    """The best of all runs on the host; `words` are those of a key."""
    own, rng = _own(spec, pair), np.random.default_rng(0 if words is None else words)
    if start is None:
        begun = anchored(spec, pair, own) if _is_mapped(spec) else {}
    else:
        begun = jax.tree.map(np.asarray, start)
    starts = (as_elements(spec, random_perms(spec, rng)) if run else begun for run in range(restarts))
    runs: Iterator[Found] = (_descend(spec, pair, own, rng, start, sweeps) for start in starts)
    # histories never fall
    return max(runs, key=lambda found: found.history[-1])


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
    curve = np.full(sweeps, value)
    curve[: len(history)] = history
    return Found(unmoved | perms, scores, curve)


def _is_worth(gain: Any, last: Any, value: Any) -> Any:
    """Whether another round of maps is, after one that gained so much, and one before it."""
    return (gain > SETTLED * abs(value)) | ((gain <= NEARLY * last) & (gain > NOTHING * abs(value)))


def _least(spec: PermutationSpec) -> float:
    """By how much a sweep must raise the objective for another one to be worth it."""
    return LEAST if _is_mapped(spec) else NOTHING


def _is_mapped(spec: PermutationSpec) -> bool:
    """Whether units of some group are mixed: at the identity nothing is known of them, and what is beside them."""
    return "orthogonal" in spec.kinds.values()


def _words(key: jax.Array | None) -> Any:
    """The numbers that a key is."""
    if key is None:
        return None
    words = jax.random.key_data(key) if kind(key) == "a random key" else key
    return words if is_traced(words) else np.asarray(words).ravel()


class Program(NamedTuple):
    """What a search inside of a program knows beside arrays.

    Attributes:
      spec: of the networks.
      a, b: their blocks without arrays.
      structure: of the arrays: those of the blocks of both, the words of the key and the start.
      ranks: of each of the arrays; before these come axes that they are batched over, of length 1 where they are not.
      key: which kind of key it is.
      restarts, sweeps: as for `weight_matching`.
      history: the type of the objective.
    """

    spec: PermutationSpec
    a: tuple[Block, ...]
    b: tuple[Block, ...]
    structure: Any
    ranks: tuple[int, ...]
    key: str | None
    restarts: int
    sweeps: int
    history: Any

    def read(self, arrays: Sequence[Any]) -> tuple[Pair, Any, Any]:
        """The pair, the words and the start that arrays of one search are."""
        one, two, words, start = jax.tree.unflatten(self.structure, arrays)
        filled = lambda of, arrays: tuple(x._replace(array=array) for x, array in zip(of, arrays, strict=True))
        a, b = filled(self.a, one), filled(self.b, two)
        return Pair(a, b, find_places(self.spec, tuple(block.factors for block in a))), words, start

    def batch(self, arrays: Sequence[Any]) -> tuple[int, ...]:
        """What the arrays are batched over together."""
        return np.broadcast_shapes(*(x.shape[: x.ndim - r] for x, r in zip(arrays, self.ranks, strict=True)))


def _inside_a_program(spec, a, b, key, start, restarts, sweeps) -> Alignment:
    pair = read_pair(spec, a, b)
    given = [block.array for block in pair.a], [block.array for block in pair.b], _words(key), start
    # the search ends in integers, and cannot be linearised
    arrays, structure = jax.tree.flatten(jax.lax.stop_gradient(given))
    bare = lambda blocks: tuple(block._replace(array=None) for block in blocks)
    program = Program(
        spec,
        *(bare(pair.a), bare(pair.b), structure, tuple(x.ndim for x in arrays)),
        str(jax.random.key_impl(key)) if key is not None and kind(key) == "a random key" else None,
        *(restarts, sweeps),
        functools.reduce(jnp.promote_types, (np.empty(0, x.dtype).real.dtype for x in given[0]), np.dtype(np.float32)),
    )
    *leaves, history = _searched(*arrays, program=program)
    perms = jax.tree.unflatten(jax.tree.structure(neutral(spec)), leaves)
    return Alignment(perms, match_scores(spec, a, b, perms), history)


def _shapes(*arrays, program: Program) -> list[jax.ShapeDtypeStruct]:
    batch, leaves = program.batch(arrays), jax.tree.leaves(neutral(program.spec))
    return [
        *(jax.ShapeDtypeStruct((*batch, *leaf.shape), leaf.dtype) for leaf in leaves),
        jax.ShapeDtypeStruct((*batch, program.sweeps), program.history),
    ]


def _searched_on_host(*arrays, program: Program) -> list[np.ndarray]:
    """Every pair of a batch, in threads where groups are large."""
    spec, batch = program.spec, program.batch(arrays)
    results = [np.empty(one.shape, one.dtype) for one in _shapes(*arrays, program=program)]

    def search(index):
        of = lambda x: tuple(min(k, length - 1) for k, length in zip(index, x.shape, strict=False))
        pair, words, start = program.read([x[of(x)] for x in arrays])
        perms, _, history = _search(spec, pair, words, start, program.restarts, program.sweeps)
        for result, found in zip(results, (*jax.tree.leaves(perms), history), strict=True):
            result[index] = found

    work = sum(math.prod(spec.batch_shape(group)) * n**3 for group, n in spec.sizes.items() if n >= WIDE)
    in_threads(search, list(np.ndindex(batch)), USUAL * work * program.restarts * math.prod(batch))
    return results


def _searched_on_device(*arrays, program: Program) -> list[jax.Array]:
    """One pair of a batch after the other: side by side all would take as long as the slowest, in every step."""
    batch, shapes = program.batch(arrays), _shapes(*arrays, program=program)

    def search(index):
        of = lambda x: tuple(jnp.minimum(k, length - 1) for k, length in zip(index, x.shape, strict=False))
        found = _search_traced(program, *program.read([x[of(x)] for x in arrays]))
        return [x.astype(shape.dtype) for x, shape in zip(jax.tree.leaves(found), shapes, strict=True)]

    if not batch:
        return search(())
    found = jax.lax.map(lambda k: search(jnp.unravel_index(k, batch)), jnp.arange(math.prod(batch)))
    return [x.reshape(shape.shape) for x, shape in zip(found, shapes, strict=True)]


def _batched(bind, arrays, axes, *, program: Program):
    in_front = [x[None] if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True)]
    found = bind(*in_front, program=program)
    return found, [0] * len(found)


_searched = host_primitive("weight_matching", _shapes, _searched_on_host, _searched_on_device, _batched)


def _search_traced(program: Program, pair: Pair, words, start):
    spec, sweeps = program.spec, program.sweeps
    key = jax.random.key(0) if words is None else jax.random.wrap_key_data(words, impl=program.key)
    run_key, start_key = jax.random.split(key)
    own = _own(spec, pair)
    if start is None:
        start = anchored(spec, pair, own) if _is_mapped(spec) else neutral(spec)
    first = jax.tree.map(jnp.asarray, start)
    if program.restarts == 1:
        return _search_one(spec, pair, own, run_key, first, sweeps)
    draws = jax.random.split(start_key, program.restarts - 1)
    others = jax.vmap(lambda k: as_elements(spec, random_perms(spec, k)))(draws)
    starts = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, others)
    keys = jax.random.split(run_key, program.restarts)
    runs = jax.lax.map(lambda run: _search_one(spec, pair, own, run[0], run[1], sweeps), (keys, starts))
    best = jnp.argmax(runs[1][:, -1])
    return jax.tree.map(lambda x: x[best], runs)


def _search_one(spec, pair, own, key, perms, sweeps):
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
