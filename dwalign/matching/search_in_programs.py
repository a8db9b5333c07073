"""The search of weight matching inside of compiled programs.

On CPUs it is that of the host, called once for a whole batch, of which small pairs go side by side; on accelerators a
loop in which all do, and nothing leaves them.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.assignment import as_elements, cores, host_primitive, in_threads, neutral
from dwalign.matching.scores import Pair, Scores, aligned_product, find_places, read_pair
from dwalign.matching.search import (
    ROUNDS,
    SMALL,
    Found,
    Perms,
    chosen,
    is_mapped,
    is_worth,
    key_words,
    least,
    own_where_small,
    search,
)
from dwalign.matching.side_by_side import search_side_by_side
from dwalign.matching.steps import anchored, improve, visited
from dwalign.symmetry import Block, PermutationSpec, kind, random_perms

# so many times a group is assigned until nothing changes
USUAL = 5
# groups of so many units keep the solver busy for longer than the interpreter, which threads wait for
WIDE = 64
# fewer pairs, which visit groups in orders of their own, are as soon matched one by one
SEVERAL = 16
# so many pairs side by side are all that is copied at a time
TOGETHER = 64
# the sum of n^3 that repays it that fewer pairs go side by side
WORTH_SHARING = 5e7


class Program(NamedTuple):
    """What a search inside of a program knows beside arrays.

    Attributes:
      spec: of the networks.
      a, b: their blocks without arrays.
      structure: of the arrays: those of the blocks of both, the words of the key and where runs begin.
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
        """The pair, the words, and where the first run begins: what arrays of one search are."""
        one, two, words, begun = jax.tree.unflatten(self.structure, arrays)
        filled = lambda of, arrays: tuple(x._replace(array=array) for x, array in zip(of, arrays, strict=True))
        a, b = filled(self.a, one), filled(self.b, two)
        return Pair(a, b, find_places(self.spec, tuple(block.factors for block in a))), words, begun

    def visited(self) -> tuple[list[str], list[str]]:
        """The groups that are mixed, and those that are assigned."""
        return visited(self.spec, tuple(block.factors for block in self.a))

    def batch(self, arrays: Sequence[Any]) -> tuple[int, ...]:
        """What the arrays are batched over together."""
        return np.broadcast_shapes(*(x.shape[: x.ndim - r] for x, r in zip(arrays, self.ranks, strict=True)))


def search_in_program(
    spec: PermutationSpec,
    a: Any,
    b: Any,
    *,
    key: jax.Array | None,
    begun: Perms | None,
    restarts: int,
    sweeps: int,
) -> tuple[Perms, jax.Array]:
    """The elements that a search ends with, and the objective after each sweep; of traced networks.

    It begins as `search` does.
    """
    pair, words = read_pair(spec, a, b), None if key is None else key_words(key)
    given = [block.array for block in pair.a], [block.array for block in pair.b], words, begun
    # the search ends in integers, and cannot be linearised
    arrays, structure = jax.tree.flatten(jax.lax.stop_gradient(given))
    # of numbers of 8 bits JAX knows no wider ones
    types = [np.empty(0, x.dtype).real.dtype for x in given[0] if x.dtype.itemsize > 1]
    bare = lambda blocks: tuple(block._replace(array=None) for block in blocks)
    program = Program(
        spec,
        a=bare(pair.a),
        b=bare(pair.b),
        structure=structure,
        ranks=tuple(np.ndim(x) for x in arrays),
        key=str(jax.random.key_impl(key)) if key is not None and kind(key) == "a random key" else None,
        restarts=restarts,
        sweeps=sweeps,
        history=functools.reduce(jnp.promote_types, types, np.float32),
    )
    *leaves, history = _searched(*arrays, program=program)
    return jax.tree.unflatten(jax.tree.structure(neutral(spec)), leaves), history


def _shapes(*arrays, program: Program) -> list[jax.ShapeDtypeStruct]:
    batch, leaves = program.batch(arrays), jax.tree.leaves(neutral(program.spec))
    return [
        *(jax.ShapeDtypeStruct((*batch, *leaf.shape), leaf.dtype) for leaf in leaves),
        jax.ShapeDtypeStruct((*batch, program.sweeps), program.history),
    ]


def _searched_on_host(*arrays, program: Program) -> list[np.ndarray]:
    """Every pair of a batch, in threads where there is enough to do; small ones side by side."""
    spec, batch = program.spec, program.batch(arrays)
    count, groups = math.prod(batch), [(math.prod(spec.batch_shape(group)), n) for group, n in spec.sizes.items()]
    results = [np.empty(one.shape, one.dtype) for one in _shapes(*arrays, program=program)]

    def of(index, x, rank):
        """Of an array what belongs to a pair, or to some; what belongs to all is copied for no more than these."""
        ahead = x.shape[: x.ndim - rank]
        if ahead == batch:
            return x.reshape(count, *x.shape[x.ndim - rank :])[index]
        places = np.unravel_index(np.arange(count)[index], batch)
        return x[tuple(np.minimum(place, length - 1) for place, length in zip(places, ahead, strict=True))]

    def run(index):
        given = program.read([of(index, *one) for one in zip(arrays, program.ranks, strict=True)])
        found = find(spec, *given, program.restarts, program.sweeps)
        for result, one in zip(results, (*jax.tree.leaves(found.perms), found.history), strict=True):
            result.reshape(count, *result.shape[len(batch) :])[index] = one

    work = USUAL * sum(many * n**3 for many, n in groups if n >= WIDE) * program.restarts * count
    find: Callable[..., Found] = search
    if count >= SEVERAL and program.a and not is_mapped(spec) and max(many * n**2 for many, n in groups) <= SMALL:
        find, parts = search_side_by_side, max(-(-count // TOGETHER), min(cores(), int(work / WORTH_SHARING)))
        cuts = [k * count // parts for k in range(parts + 1)]
        in_threads(run, [slice(*ends) for ends in itertools.pairwise(cuts)], work)
    else:
        in_threads(run, range(count), work)
    return results


def _searched_on_device(*arrays, program: Program) -> list[jax.Array]:
    """All pairs of a batch side by side, which visit groups in one order, until none of them gains."""
    spec, sweeps = program.spec, program.sweeps
    batch = program.batch(arrays)
    count = math.prod(batch)
    flat, axes = [], []
    for x, rank in zip(arrays, program.ranks, strict=True):
        ahead, own = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
        alone = math.prod(ahead) == 1
        flat.append(x.reshape(own) if alone else jnp.broadcast_to(x, (*batch, *own)).reshape(count, *own))
        axes.append(None if alone else 0)

    def of_each(function, *more):
        one = lambda given, *more: function(*program.read(given), *more)
        return jax.vmap(one, (axes, *[0] * len(more)), axis_size=count)(flat, *more)

    def sweep(carry):
        states, history, done, active = carry
        order = jax.random.permutation(jax.random.key(done), len(program.visited()[1]))
        swept = lambda pair, _, __, own, runs: jax.vmap(lambda state: _swept(program, pair, own, state, order))(runs)
        new = chosen(jnp, active, of_each(swept, own, states), states)
        history = jnp.where(jnp.arange(sweeps) >= done, new[1][..., None], history)
        return new, history, done + 1, new[1] - states[1] > least(spec) * jnp.abs(new[1])

    own = of_each(lambda pair, *_: own_where_small(spec, pair))
    states = of_each(functools.partial(_starts, program))
    value = states[1]
    begun = states, jnp.full((*value.shape, sweeps), -jnp.inf, value.dtype), jnp.int32(0), jnp.ones(value.shape, bool)
    (perms, _), history, *_ = jax.lax.while_loop(lambda carry: carry[3].any() & (carry[2] < sweeps), sweep, begun)
    best = jnp.argmax(history[..., -1], 1)
    found = jax.tree.map(lambda x: x[jnp.arange(count), best], [*jax.tree.leaves(perms), history])
    shapes = _shapes(*arrays, program=program)
    return [x.reshape(shape.shape).astype(shape.dtype) for x, shape in zip(found, shapes, strict=True)]


def _batched(bind, arrays, axes, *, program: Program):
    in_front = [x[None] if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True)]
    found = bind(*in_front, program=program)
    return found, [0] * len(found)


_searched = host_primitive("weight_matching", _shapes, _searched_on_host, _searched_on_device, _batched)


def _starts(program: Program, pair: Pair, words, begun) -> tuple[Perms, jax.Array]:
    """The elements and objectives that runs begin with, `[restarts, ...]`."""
    spec = program.spec
    begun = anchored(spec, pair, own_where_small(spec, pair)) if begun is None else neutral(spec) | begun
    first = jax.tree.map(lambda x: jnp.asarray(x)[None], begun)
    key = jax.random.key(0) if words is None else jax.random.wrap_key_data(words, impl=program.key)
    # not vmapped: of no keys, or of several, generators such as rbg take the first
    draw = lambda key: as_elements(spec, random_perms(spec, key))
    drawn = jax.lax.map(draw, jax.random.split(key, program.restarts - 1))
    starts = jax.tree.map(lambda x, y: jnp.concatenate([x, y.astype(x.dtype)]), first, drawn)
    value = lambda perms: jnp.asarray(aligned_product(spec, pair, perms))
    return starts, jax.vmap(value, axis_size=program.restarts)(starts)


def _swept(program: Program, pair: Pair, own: Scores, state, order: jax.Array):
    """The elements and the objective after all groups were assigned once more, in this order."""
    spec = program.spec
    maps, others = program.visited()

    def step(group, state):
        perms, value = state
        _, new, gain, better = improve(spec, pair, own, perms, perms, group)
        kept = {g: chosen(jnp, better, one, perms[g]) for g, one in new.items()}
        return {**perms, **kept}, value + (gain * better).sum().astype(value.dtype)

    def turn(carry):
        state, last, _, count = carry
        after = functools.reduce(lambda state, group: step(group, state), maps, state)
        gain = after[1] - state[1]
        return after, gain, is_worth(gain, last, after[1]), count + 1

    if maps:
        begun = state, jnp.full((), jnp.inf, state[1].dtype), jnp.array(True), jnp.int32(0)
        state = jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < ROUNDS), turn, begun)[0]
    # without groups a sweep has no steps, but what a step would be must be known
    branches: list[Any] = [functools.partial(step, group) for group in others] or [lambda state: state]
    return jax.lax.scan(lambda state, k: (jax.lax.switch(k, branches, state), None), state, order)[0]
