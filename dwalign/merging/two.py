"""Two networks into one, after their alignment."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from dwalign.bounds import Names, bounded
from dwalign.merging.statistics import renewed
from dwalign.program import Data, Network, as_data, spec_of
from dwalign.symmetry import PermutationSpec, Weight, interpolate, permute

PyTree = Any


@bounded
def average(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    perms: Mapping[str, jax.Array],
    *,
    weight: Weight | Mapping[str, Weight] = 0.5,
    keep: Names = (),
    data: Data | None = None,
    renew: Callable[[PyTree], PyTree] | None = None,
) -> PyTree:
    """`(1 - weight) a + weight P.b` with batch statistics of its own.

    Args:
      network: what both are, or its spec.
      a, b: parameters.
      perms: an alignment of b to a.
      weight: of b; or one for every layer, named by its groups or by patterns of paths, see
        `dwalign.symmetry.leaf_weights`: `{"*": 0.5, "params/dense_0/*": 0.3}`.
      keep: layers, named likewise, that stay those of a, such as heads of different tasks (Stoica et al. 2024).
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
    spec, data = spec_of("merge", network), as_data("merge", data)
    spec.check_pair(a, b)
    named = weight if isinstance(weight, Mapping) else {"*": weight}
    merged = interpolate(spec, a, permute(spec, b, perms), {**named, **dict.fromkeys(keep, 0.0)})
    return renewed(network, merged, data, renew)
