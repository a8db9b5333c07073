"""Many networks aligned to one order of their units, the universe: so every way round a cycle is the identity.

Each way takes what is `Given` and finds one element of the group for each network.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.matching import weight_matching
from dwalign.merging.frank_wolfe import climb
from dwalign.merging.refinement import refine_mean
from dwalign.program import Data, Network, Task, check_data, check_network, spec_of
from dwalign.symmetry import Axes, PermutationSpec, compose, identity, inverse, mean, permute

PyTree = Any
Perms = dict[str, jax.Array]
# passes over all networks; what has not settled by then goes in circles
PASSES = 50


class Given(NamedTuple):
    """What is aligned and by what.

    Attributes:
      network: or its spec.
      networks: parameters.
      pairwise: `(a, b, key) -> perms`, the alignment of b to a that a method of two networks finds.
      encode: `(params, key) -> {group: [*batch, n, d]}`, the features by which that method compares units.
      key: a random key.
      data, task: what the networks are for, where a way asks for it.
    """

    network: Network | PermutationSpec
    networks: Sequence[PyTree]
    pairwise: Callable[[PyTree, PyTree, jax.Array], Perms]
    encode: Callable[[PyTree, jax.Array], dict[str, jax.Array]]
    key: jax.Array
    data: Data | None
    task: Task

    @property
    def spec(self) -> PermutationSpec:
        return spec_of("merge_many", self.network)


def to_first(given: Given) -> list[Perms]:
    """Each to the first."""
    first, *others = given.networks
    keys = jax.random.split(given.key, len(others))
    return [identity(given.spec), *(given.pairwise(first, b, key) for b, key in zip(others, keys, strict=True))]


def to_running_mean(given: Given) -> list[Perms]:
    """Each in turn to the mean of those before it."""
    first, *others = given.networks
    found, moved = [identity(given.spec)], [first]
    for b, key in zip(others, jax.random.split(given.key, len(others)), strict=True):
        found.append(given.pairwise(mean(given.spec, moved), b, key))
        moved.append(permute(given.spec, b, found[-1]))
    return found


def to_others(given: Given) -> list[Perms]:
    """Each in random order to the mean of all others, until none moves (MergeMany, Ainsworth et al. 2023, alg. 3)."""
    spec, networks = given.spec, given.networks
    rng = np.random.default_rng(np.asarray(jax.random.key_data(given.key)).ravel())
    unmoved = identity(spec)
    found, moved = [unmoved for _ in networks], list(networks)
    for number in range(PASSES):
        keys = jax.random.split(jax.random.fold_in(given.key, number), len(networks))
        settled = True
        for k in rng.permutation(len(networks)):
            others = mean(spec, [one for j, one in enumerate(moved) if j != k])
            step = given.pairwise(others, moved[k], keys[k])
            if all(np.array_equal(step[g], perm) for g, perm in unmoved.items()):
                continue
            settled = False
            found[k] = compose(spec, step, found[k])
            moved[k] = permute(spec, networks[k], found[k])
        if settled:
            break
    return found


def jointly(given: Given) -> list[Perms]:
    """All at once by Frank-Wolfe (C2M3, Crisostomi et al. 2024), from where alignment to the running mean ends."""
    return climb(given.spec, given.networks, to_running_mean(given))


def by_features(given: Given) -> list[Perms]:
    """All at once to where the sum over all pairs of the scores of matched units is largest (Pachauri et al. 2013).

    Features are themselves arrays that permutations act on, so the climb on weights is the climb on these.
    """
    features = [jax.tree.map(np.asarray, given.encode(params, given.key)) for params in given.networks]
    spec, first = given.spec, features[0]
    axes = {g: Axes(*spec.batch.get(g, ()), g, first[g].shape[-1]) for g in spec.sizes}
    of_features = PermutationSpec(axes, spec.sizes, fixed=spec.fixed, batch=spec.batch)
    pairwise = lambda a, b, key: weight_matching(of_features, a, b, key=key, checked=True).perms
    return jointly(given._replace(network=of_features, networks=features, pairwise=pairwise))


def down_the_loss(given: Given) -> list[Perms]:
    """All at once down the loss of their mean, from where the climb ends."""
    network: Any = given.network
    check_network("merge_many", network)
    data = check_data("merge_many", given.data, labels=True)
    return refine_mean(network, given.networks, jointly(given), data, given.task)


HOW: dict[str, Callable[[Given], list[Perms]]] = {
    "first": to_first,
    "running_mean": to_running_mean,
    "merge_many": to_others,
    "universe": jointly,
    "features": by_features,
    "refinement": down_the_loss,
}


def in_order_of_first(spec: PermutationSpec, perms: Sequence[Perms]) -> list[Perms]:
    """The same with the universe in the order of the first network."""
    back = inverse(spec, perms[0])
    return [identity(spec), *(compose(spec, back, perm) for perm in perms[1:])]
