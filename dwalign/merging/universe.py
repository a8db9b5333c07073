"""Many networks aligned to one order of their units, the universe: so every way round a cycle is the identity.

Each function takes `(network, networks, pairwise, key)` and gives one element of the group for each network;
`pairwise(a, b, key)` are the permutations of b to a that a method of two networks finds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dwalign.merging.frank_wolfe import climb
from dwalign.symmetry import PermutationSpec, compose, identity, inverse, mean, permute

PyTree = Any
Perms = dict[str, jax.Array]
Pairwise = Callable[[PyTree, PyTree, jax.Array], Perms]
# passes over all networks; what has not settled by then goes in circles
PASSES = 50


def to_first(spec: PermutationSpec, networks: Sequence[PyTree], pairwise: Pairwise, key: jax.Array) -> list[Perms]:
    """Each to the first."""
    first, *others = networks
    keys = jax.random.split(key, len(networks))
    return [identity(spec), *(pairwise(first, b, k) for b, k in zip(others, keys[1:], strict=True))]


def to_running_mean(
    spec: PermutationSpec, networks: Sequence[PyTree], pairwise: Pairwise, key: jax.Array
) -> list[Perms]:
    """Each in turn to the mean of those before it."""
    found, moved = [identity(spec)], [networks[0]]
    for b, k in zip(networks[1:], jax.random.split(key, len(networks))[1:], strict=True):
        found.append(pairwise(mean(spec, moved), b, k))
        moved.append(permute(spec, b, found[-1]))
    return found


def to_others(spec: PermutationSpec, networks: Sequence[PyTree], pairwise: Pairwise, key: jax.Array) -> list[Perms]:
    """Each in random order to the mean of all others, until none moves (MergeMany, Ainsworth et al. 2023, alg. 3)."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    found, moved = [identity(spec) for _ in networks], list(networks)
    for number in range(PASSES):
        keys = jax.random.split(jax.random.fold_in(key, number), len(networks))
        settled = True
        for k in rng.permutation(len(networks)):
            others = mean(spec, [one for j, one in enumerate(moved) if j != k])
            step = pairwise(others, moved[k], keys[k])
            if all(np.array_equal(step[g], perm) for g, perm in identity(spec).items()):
                continue
            settled = False
            found[k] = compose(spec, step, found[k])
            moved[k] = permute(spec, networks[k], found[k])
        if settled:
            break
    return found


def jointly(spec: PermutationSpec, networks: Sequence[PyTree], pairwise: Pairwise, key: jax.Array) -> list[Perms]:
    """All at once by Frank-Wolfe (C2M3, Crisostomi et al. 2024), from where alignment to the running mean ends."""
    return climb(spec, networks, to_running_mean(spec, networks, pairwise, key))


HOW: dict[str, Callable[..., list[Perms]]] = {
    "first": to_first,
    "running_mean": to_running_mean,
    "merge_many": to_others,
    "universe": jointly,
}


def in_order_of_first(spec: PermutationSpec, perms: Sequence[Perms]) -> list[Perms]:
    """The same with the universe in the order of the first network."""
    back = inverse(spec, perms[0])
    return [identity(spec), *(compose(spec, back, perm) for perm in perms[1:])]
