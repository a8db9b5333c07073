"""Programs in which equal equations are one: what draws a hundred arrays is compiled as a draw or two."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.random import define_prng_impl
from jax.interpreters.partial_eval import dce_jaxpr

from dwalign.program.interpret import bind

DRAWS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "_normal": (jax.random.normal, ()),
    "_truncated_normal": (jax.random.truncated_normal, ("lower", "upper")),
    "_uniform": (jax.random.uniform, ("minval", "maxval")),
}
"""What JAX calls the programs of its draws, and the names of what they take beside keys, shapes and types."""


class Place(NamedTuple):
    """Where a value is: all of `held`, or one of its rows."""

    held: Any
    row: int | None = None

    @property
    def value(self) -> Any:
        return self.held if self.row is None else self.held[self.row]


def together(f: Callable) -> Callable:
    """The pure function, with equal equations that do not wait for one another as one, over a batch of operands.

    Draws that differ in shape alone are one as well, which for each of its numbers has the key of its array. Values
    stay the same but for rounding; what is drawn stays so with generators whose draws are the same under vmap, as those
    of JAX's default one are. Types that are weak may become strong. What initialises an encoder draws a hundred arrays,
    and nearly all of its time is compilation, draw by draw.

    >>> draw = lambda key: [jax.random.normal(jax.random.fold_in(key, k), (3,)) for k in range(40)]
    >>> count = lambda f: jax.jit(f).lower(jax.random.key(0)).as_text().count("call @_normal(")
    >>> count(draw), count(together(draw))
    (40, 1)
    """

    def run(*args):
        program, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shapes), _evaluated(program, jax.tree.leaves(args)))

    return run


def _evaluated(program: ClosedJaxpr, values: Sequence) -> list:
    jaxpr = program.jaxpr
    env = {var: Place(value) for var, value in zip(jaxpr.invars, values, strict=True)}
    env |= {var: Place(const) for var, const in zip(jaxpr.constvars, program.consts, strict=True)}
    literals: dict[Any, Place] = {}

    def place(var):
        if not isinstance(var, Literal):
            return env[var]
        value = np.asarray(var.val, var.aval.dtype)
        # equal ones are one
        return literals.setdefault((value.dtype, value.tobytes()), Place(value))

    for eqns in _alike(jaxpr):
        if (draw := _draw(eqns[0])) is not None:
            env.update(_drawn(draw, eqns, place))
            continue
        operands = [_batched(list(map(place, each))) for each in zip(*(eqn.invars for eqn in eqns), strict=True)]
        axes = [axis for _, axis in operands]
        one = lambda *ins, eqn=eqns[0]: bind(eqn, ins)
        shared = all(axis is None for axis in axes)
        found = (one if shared else jax.vmap(one, axes))(*(operand for operand, _ in operands))
        for k, eqn in enumerate(eqns):
            env.update((var, Place(held, None if shared else k)) for var, held in zip(eqn.outvars, found, strict=True))
    return [jnp.asarray(place(var).value) for var in jaxpr.outvars]


class Draw(NamedTuple):
    """What a draw is but for its key and shape."""

    name: str
    limits: tuple[float, ...]
    dtype: Any
    settings: Any


def _draw(eqn: Any) -> Draw | None:
    """Of an equation each of whose numbers depends on the key and its place alone."""
    name = eqn.params.get("name")
    if name not in DRAWS:
        return None
    key, *limits = eqn.invars
    if len(limits) != len(DRAWS[name][1]) or not all(isinstance(x, Literal) for x in limits):
        return None
    by_place = eqn.ctx.threefry_partitionable and key.aval.dtype == jax.random.key(0, impl="threefry2x32").dtype
    dtype = eqn.outvars[0].aval.dtype
    # complex ones split their key
    if key.aval.shape or not by_place or not jnp.issubdtype(dtype, jnp.floating):
        return None
    return Draw(name, tuple(x.val for x in limits), dtype, eqn.ctx)


def _drawn(draw: Draw, eqns: list, place: Callable[[Any], Place]) -> Iterator[tuple[Any, Place]]:
    """What equations that are such draws are for, and its places."""
    function, names = DRAWS[draw.name]
    limits = dict(zip(names, draw.limits, strict=True))
    by_shape: dict[tuple[int, ...], list[Any]] = {}
    for eqn in eqns:
        by_shape.setdefault(eqn.outvars[0].aval.shape, []).append(eqn)
    parts = []
    for shape, same in by_shape.items():
        keys, _ = _batched([place(eqn.invars[0]) for eqn in same])
        whole = (len(same), math.prod(shape))
        words = jnp.broadcast_to(jax.random.key_data(keys), (len(same), 2))
        index = jax.lax.broadcasted_iota(words.dtype, whole, 1)
        parts.append(jnp.stack([*(jnp.broadcast_to(word[:, None], whole) for word in words.T), index]).reshape(3, -1))
    data = jnp.concatenate(parts, 1)
    count = data.shape[1]
    with draw.settings.manager:
        key = jax.random.wrap_key_data(data, impl=_of_each_place(count))
        drawn, begin = function(key, shape=(count,), dtype=draw.dtype, **limits), 0
    for shape, same in by_shape.items():
        end = begin + len(same) * math.prod(shape)
        held, begin = drawn[begin:end].reshape(len(same), *shape), end
        yield from ((eqn.outvars[0], Place(held, k)) for k, eqn in enumerate(same))


@functools.cache
def _of_each_place(count: int) -> Any:
    """A generator whose key holds, for each number, both words of a threefry key and which of its numbers it is."""

    def random_bits(data, width, shape):
        first, second, index = data
        high, low = _threefry(first, second, jnp.zeros_like(index), index)
        if width == 64:
            return high.astype(jnp.uint64) << 32 | low.astype(jnp.uint64)
        return (high ^ low).astype(f"uint{width}")

    def none(*_):
        raise NotImplementedError("a key of each place draws numbers, and nothing else")

    return define_prng_impl(
        key_shape=(3, count),
        seed=none,
        split=none,
        random_bits=random_bits,
        fold_in=none,
        name=f"threefry of each of {count} places",
        tag=f"places{count}",
    )


def _threefry(first, second, high, low):
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011) in one pass; that of JAX takes five over all numbers on CPUs."""
    words = [first, second, first ^ second ^ np.uint32(0x1BD11BDA)]
    high, low = high + first, low + second
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            high = high + low
            low = high ^ (low << np.uint32(turn) | low >> np.uint32(32 - turn))
        high, low = high + words[(block + 1) % 3], low + words[(block + 2) % 3] + np.uint32(block + 1)
    return high, low


def _batched(places: list[Place]) -> tuple[Any, int | None]:
    """The values of these places, and the axis along which they are stacked; without one where all are the same."""
    held, rows = places[0].held, [place.row for place in places]
    if any(place.held is not held for place in places):
        return jnp.stack([place.value for place in places]), 0
    if len(set(rows)) == 1:
        return places[0].value, None
    return held if rows == list(range(len(held))) else held[np.array(rows)], 0


def _alike(jaxpr: Any) -> list[list[Any]]:
    """The equations that its results need, equal ones of one depth together, in an order in which they can be run."""
    depths: dict[Any, int] = {}
    alike: dict[Any, list[Any]] = {}
    for eqn in dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), instantiate=True)[0].eqns:
        free = [var for var in eqn.invars if not isinstance(var, Literal)]
        depth = max((depths.get(var, 0) for var in free), default=0)
        depths.update(dict.fromkeys(eqn.outvars, depth + 1))
        kind = _draw(eqn) or (
            eqn.primitive, tuple(sorted(eqn.params.items())), tuple(var.aval for var in eqn.invars), eqn.ctx,
        )  # fmt: skip
        try:
            alike.setdefault((depth, kind), []).append(eqn)
        except TypeError:  # what cannot be hashed cannot be compared
            alike[depth, id(eqn)] = [eqn]
    return [alike[key] for key in sorted(alike, key=lambda key: key[0])]
