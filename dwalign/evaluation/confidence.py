"""How clear a matching is: how alike partners are, and how much more alike than any other two."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.bounds import Count, bounded
from dwalign.matching import correlations, unit_cosines
from dwalign.program import Data, Network, check_data, check_network, spec_of
from dwalign.symmetry import PermutationSpec, namespace, permute

PyTree = Any


class Confidence(NamedTuple):
    """Two figures a unit, for each group `[*batch, n]` in the order of the units of a.

    Attributes:
      similarity: of a unit and its partner, from -1 to 1.
      margin: that less the similarity of the unit and the most alike of the other units. Where it is negative another
        unit is more alike: the assignment gave that one to a third unit that needs it more, or the method looked at
        something else. A group of one unit has a margin to -1, the least that a similarity can be.
    """

    similarity: dict[str, jax.Array]
    margin: dict[str, jax.Array]


@bounded
def confidence(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    perms: Mapping[str, jax.Array],
    *,
    data: Data | None = None,
    chunk: Count = 1000,
) -> Confidence:
    """How alike the units that `perms` brings together are, and whether another partner would be more alike.

    Without data alike are units of which the weights are, incoming and outgoing: the cosine over all weights that a
    unit touches, its neighbours aligned. With data those that respond alike: the correlation of their activations.

    These are no probabilities: two networks may merge well although few weights are alike, as large ones do, and a
    relabelled copy with two units that are the same has margins of 0 and is matched rightly. Compare groups, or pairs
    of networks of one architecture. Units that nothing is known of (of a group for which no weight votes, without any
    weight but zeros, constant on the data) have similarity and margin 0. In a batched group, such as the channels of
    attention heads, a unit is compared with those of the head that its own was matched to.

    Args:
      network: or its spec, without data.
      a, b: what was aligned.
      perms: of every group, `[*batch, n]`; those of an `Alignment`.
      data: inputs `[m, ...]`.
      chunk: inputs that are pushed through the networks at once.

    Raises:
      SpecError: perms do not fit, or data with a bare spec.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes(None, "h0")}, {"h0": 2})
    >>> a, b = {"w": np.array([[1.0, 0.0], [0.0, 2.0]])}, {"w": np.array([[0.0, 3.0], [4.0, 3.0]])}
    >>> found = confidence(spec, a, b, {"h0": np.array([1, 0])})
    >>> found.similarity["h0"].round(2).tolist(), found.margin["h0"].round(2).tolist()
    ([0.71, 1.0], [0.71, 0.29])
    """
    spec = spec_of("confidence", network)
    spec.check_pair(a, b)
    moved = permute(spec, b, perms)
    found = {group: _clear(alike) for group, alike in _alike(network, spec, a, moved, data, chunk)}
    return Confidence(*({group: found[group][k] for group in spec.sizes} for k in range(2)))


def _alike(network, spec, a, moved, data, chunk) -> Iterator[tuple[str, jax.Array]]:
    if data is None:
        return unit_cosines(spec, a, moved)
    check_network("confidence", network)
    inputs = check_data("confidence", data).inputs
    return iter(correlations(network, a, moved, inputs, chunk=chunk).items())


def _clear(alike: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Similarity and margin from those of all pairs `[*batch, n, n]`, of which partners are the diagonal."""
    xp = namespace(alike)
    partner = xp.diagonal(alike, axis1=-2, axis2=-1)
    others = xp.where(np.eye(alike.shape[-1], dtype=bool), -1.0, alike).max(-1)
    return partner, partner - others
