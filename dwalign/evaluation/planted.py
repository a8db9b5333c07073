"""Planted recovery: hide a known permutation in a network and see how much of it a method finds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.symmetry import Alignment, PermutationSpec, inverse, permute, perturb, random_perms

PyTree = Any


class Recovery(NamedTuple):
    """What was recovered of one draw; the mean of the leaves over draws gives the shares.

    Attributes:
      units: for each group the share of units that were matched rightly.
      groups: for each group 1 where every unit of it was, otherwise 0.
      draw: 1 where every group was, otherwise 0.
    """

    units: dict[str, jax.Array]
    groups: dict[str, jax.Array]
    draw: jax.Array


def planted_recovery(
    spec: PermutationSpec,
    method: Callable[..., Alignment],
    params: PyTree,
    *,
    key: jax.Array,
    noise: float = 0.0,
) -> Recovery:
    """Align a network to a relabelled (and noisy) copy of itself; `jax.vmap` over `key` makes many draws.

    Args:
      spec: of the network.
      method: `method(a, b, key=key)` for one pair.
      params: one network. Units that are exactly alike cannot be told apart and count as missed when swapped.
      key: draws the permutation, the noise and the key that the method gets.
      noise: standard deviation of the Gaussian noise on the copy, relative to the root mean square of each array;
        arrays of positive values are multiplied by its exponential.

    Returns:
      a `Recovery` of scalars.
    """
    hidden, noisy, solve = jax.random.split(key, 3)
    perms = random_perms(spec, hidden)
    copy = perturb(spec, permute(spec, params, perms), noisy, noise)
    found = method(params, copy, key=solve).perms
    right = {g: found[g] == truth for g, truth in inverse(spec, perms).items()}
    groups = {g: jnp.all(hit) for g, hit in right.items()}
    return Recovery(
        {g: jnp.mean(hit, dtype=jnp.float32) for g, hit in right.items()},
        {g: hit.astype(jnp.float32) for g, hit in groups.items()},
        jnp.stack(list(groups.values())).all().astype(jnp.float32),
    )
