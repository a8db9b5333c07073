"""How what is read off a place changes: not at all, with the signs of its units, or with the map of its axis.

Features that do not change are even: numbers of a unit, or of a whole axis that may be rotated, and any function of
them is even again. All others are odd. What keeps those equivariant is to mix their channels by linear maps and to
multiply them with even features; their sizes are even.
"""

import jax
import jax.numpy as jnp

from dwalign.assignment import MATCHED
from dwalign.symmetry import Block, PermutationSpec, SpecError

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
