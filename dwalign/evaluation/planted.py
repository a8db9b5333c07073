"""Planted recovery: hide a known permutation in a network and see how much of it a method finds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.bounds import Strength, bounded
from dwalign.deepalign import as_method
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task, spec_of
from dwalign.symmetry import PermutationSpec, check_key, inverse, permute, perturb, random_perms

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


@bounded
def planted_recovery(
    network: Network | PermutationSpec,
    method: str | Method,
    params: PyTree,
    *,
    key: jax.Array,
    noise: Strength = 0.0,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
) -> Recovery:
    """Align a network to a relabelled (and noisy) copy of itself; `jax.vmap` over `key` makes many draws.

    Args:
      network: or its spec, for methods that read weights alone.
      method: what is asked to find it, or its name, or "auto" for what `choose_method` chooses.
      params: one network. Units that are exactly alike cannot be told apart and count as missed when swapped.
      key: draws the permutation, the noise and the key that the method gets.
      noise: standard deviation of the Gaussian noise on the copy, relative to the root mean square of each array;
        arrays of positive values are multiplied by its exponential.
      data, task: for methods that need them.

    Returns:
      a `Recovery` of scalars.
    """
    spec = spec_of("planted_recovery", network)
    check_key("planted_recovery", key)
    hidden, noisy, solve = jax.random.split(key, 3)
    perms = random_perms(spec, hidden)
    copy = perturb(spec, permute(spec, params, perms), noisy, noise)
    found = as_method(network, method, data)(network, params, copy, key=solve, data=data, task=task).perms
    right = {g: found[g] == truth for g, truth in inverse(spec, perms).items()}
    groups = {g: jnp.all(hit) for g, hit in right.items()}
    return Recovery(
        {g: jnp.mean(hit, dtype=jnp.float32) for g, hit in right.items()},
        {g: hit.astype(jnp.float32) for g, hit in groups.items()},
        jnp.stack(list(groups.values())).all().astype(jnp.float32),
    )
