"""Two networks into one, after their alignment."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from dwalign.merging.statistics import reset_statistics, warn_of_stale_statistics
from dwalign.program import Data, Network, spec_of
from dwalign.symmetry import PermutationSpec, interpolate, permute

PyTree = Any


def average(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    perms: Mapping[str, jax.Array],
    *,
    weight: float | jax.Array = 0.5,
    data: Data | None = None,
    renew: Callable[[PyTree], PyTree] | None = None,
) -> PyTree:
    """`(1 - weight) a + weight P.b` with batch statistics of its own.

    Args:
      network: what both are, or its spec.
      a, b: parameters.
      perms: an alignment of b to a.
      weight: of b.
      data: on their inputs statistics are computed anew, where the network can (`Network.train`).
      renew: params to params, in place of that; one that changes nothing says that the average of the statistics of
        both is wanted.

    Warns:
      UserWarning: there are statistics of units, and neither data nor `renew` to renew them.

    >>> import numpy as np
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> swapped = {"h0": np.array([1, 0])}
    >>> average(spec, {"w": np.array([0.0, 4.0])}, {"w": np.array([8.0, 0.0])}, swapped)["w"].tolist()
    [0.0, 6.0]
    """
    spec = spec_of("merge", network)
    spec.check_pair(a, b)
    merged = interpolate(spec, a, permute(spec, b, perms), weight)
    if renew is not None:
        return renew(merged)
    if isinstance(network, Network) and network.train is not None and data is not None:
        return reset_statistics(network, merged, data[0])
    warn_of_stale_statistics(spec, merged, stacklevel=4)
    return merged
