"""How what is read off a place changes: not at all, with the signs of its units, or with the map of its axis.

Features that do not change are even: numbers of a unit, or of a whole axis that may be rotated, and any function of
them is even again. All others are odd. What keeps those equivariant is to mix their channels by linear maps and to
multiply them with even features; their sizes are even.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.assignment import MATCHED, neutral
from dwalign.symmetry import Block, PermutationSpec, SpecError, permute

PyTree = Any
EPS = 1e-6
EVEN, MAPPED = "", "map"


def parity(spec: PermutationSpec, block: Block, axis: int) -> str:
    """Of what is read off an axis of a block: `EVEN`, `MAPPED`, or which directions of signs flip it, as "01"."""
    if spec.kinds.get(block.factors[axis] or "") == "orthogonal":
        return MAPPED
    return of_character(block.powers[axis].sign) if block.powers else EVEN


def parities(spec: PermutationSpec, group: str) -> tuple[str, ...]:
    """Those of the features of a group; the even ones, which every group has, come last.

    Raises:
      SpecError: the group is of a kind that a gauge leaves none of.
    """
    if spec.kinds[group] not in MATCHED:
        raise SpecError(
            f"encoder: groups must be of the kinds {MATCHED}, but {group!r} is {spec.kinds[group]!r}; bring the "
            "networks into a gauge, dwalign.matching.gauged(network, networks)"
        )
    odd = [MAPPED] if spec.kinds[group] == "orthogonal" else map(of_character, spec.characters[group])
    return (*(p for p in odd if p != EVEN), EVEN)


def of_character(sign: tuple[int, ...]) -> str:
    """The parity of what changes by this power of signs."""
    return "".join(map(str, sign)) if any(sign) else EVEN


def own_axes(spec: PermutationSpec, group: str) -> tuple[int, ...]:
    """The axes of features `[*batch, n, d]` over which one size is an invariant: of one unit, or of all together."""
    return (-2, -1) if spec.kinds[group] == "orthogonal" else (-1,)


def sizes(spec: PermutationSpec, group: str, x: jax.Array) -> jax.Array:
    """The sizes of each channel, `[*batch, n, d]` to even features; those of a whole axis are `[*batch, 1, d]`."""
    over = own_axes(spec, group)[:-1]
    return jnp.sqrt(jnp.mean(x**2, over, keepdims=True) + EPS)


def by_character(spec: PermutationSpec, group: str, of: Callable[[str], jax.Array]) -> jax.Array:
    """Features as `feature_scores` takes them, from `of(parity)`: of a group with signs those of each character."""
    if spec.kinds[group] == "sign":
        return jnp.stack([of(of_character(sign)) for sign in spec.characters[group]], -2)
    return of(parities(spec, group)[0])


def flipping(
    spec: PermutationSpec, params: PyTree, respond: Callable[[PyTree], list[dict[str, jax.Array]]]
) -> list[dict[str, jax.Array]]:
    """For each group with signs which of its directions flip the responses of its units, `[directions, ...]`.

    `respond(params)` gives a list of them, each `{group: [1, ..., *batch, n]}`, to one example. It is seen by flipping
    all units, for each position by itself: a unit with a gain behind it may flip here and not there.
    """
    signed = [g for g, kind in spec.kinds.items() if kind == "sign"]
    unmoved, before = neutral(spec), respond(params) if signed else []

    def flips(k):
        sign = lambda g: unmoved[g].sign * np.where(np.arange(spec.directions[g][1]) == k, -1.0, 1.0)
        after = respond(permute(spec, params, {g: unmoved[g]._replace(sign=sign(g)) for g in signed}))
        units = lambda g: (0, *range(-1 - len(spec.batch_shape(g)), 0))
        return [{g: jnp.sum(x[g] * y[g], units(g)) < 0 for g in signed} for x, y in zip(before, after, strict=True)]

    seen = [flips(k) for k in range(max((spec.directions[g][1] for g in signed), default=0))]
    return [
        {g: jnp.stack([one[number][g] for one in seen[: spec.directions[g][1]]]) for g in signed}
        for number in range(len(before))
    ]


def by_parity(spec: PermutationSpec, group: str, flips: jax.Array | None) -> dict[str, jax.Array]:
    """Which responses have which parity, 1 where they do and 0 elsewhere.

    `flips` are those of `flipping`, for a group with signs.
    """
    if flips is None:
        return {parities(spec, group)[0]: jnp.ones(())}
    directions = lambda p: np.array([int(odd) for odd in p.zfill(len(flips))]).reshape(-1, *(1,) * (flips.ndim - 1))
    return {p: jnp.all(flips == directions(p), 0).astype(float) for p in parities(spec, group)}
