"""Networks as points: distances that relabelling cannot change, and what they tell about a zoo."""

from typing import Any

import jax
import numpy as np

from dwalign.bounds import bounded
from dwalign.deepalign import as_method
from dwalign.extras import load
from dwalign.matching import Method
from dwalign.program import Data, Network, spec_of
from dwalign.symmetry import (
    PermutationSpec,
    check_finite,
    count_networks,
    distance,
    key_of_pair,
    permute,
    take_networks,
    with_lists,
)

PyTree = Any


@bounded
def aligned_distances(
    network: Network | PermutationSpec,
    networks: PyTree,
    method: str | Method,
    *,
    key: jax.Array | None = None,
    data: Data | None = None,
) -> np.ndarray:
    """|a - P.b| between all pairs of a zoo after alignment by `method`, a symmetric matrix `[n, n]`.

    As invariant to relabelling as the method is equivariant. One direction of each pair is computed.

    Args:
      network: what they are, or its spec for methods that read weights alone.
      networks: stacked, leaves `[n, ...]`.
      method: by which they are aligned, or its name, or "auto" for what `choose_method` chooses.
      key: for methods that draw at random; each pair has its own, drawn by the numbers of its two networks.
        `jax.random.key(0)` by default.
      data: training data, for methods that need them.

    Raises:
      ValueError: networks that are not finite, or what the method says.
    """
    spec, count = spec_of("aligned_distances", network), count_networks(networks)
    chosen, key = as_method(network, method, data), jax.random.key(0) if key is None else key
    check_finite("aligned_distances", spec, networks, "networks")
    first, second = np.triu_indices(count, 1)

    def one(item):
        i, j = item
        a, b = take_networks(networks, i), take_networks(networks, j)
        moved = permute(spec, b, chosen(network, a, b, key=key_of_pair(key, i, j), data=data).perms)
        return distance(spec, a, moved)

    values = np.asarray(jax.jit(lambda items: jax.lax.map(one, items, batch_size=20))((first, second)))
    distances = np.zeros((count, count), values.dtype)
    distances[first, second] = distances[second, first] = values
    return distances


@with_lists
def retrieval_precision(distances: np.ndarray, labels: np.ndarray) -> float:
    """R-precision: of the R nearest others of a network, R as many as share its label, the mean share that do.

    Args:
      distances: `[n, n]`, symmetric.
      labels: `[n]`; networks whose label nobody shares are not asked.

    Raises:
      ValueError: no two networks share a label, or shapes that do not agree.
    """
    if np.shape(distances) != (len(labels),) * 2:
        raise ValueError(
            f"retrieval_precision: distances and labels must be [n, n] and [n], found {np.shape(distances)} and "
            f"{np.shape(labels)}"
        )
    same = labels[:, None] == labels[None]
    np.fill_diagonal(same, False)
    counts = same.sum(1)
    if not counts.any():
        raise ValueError("retrieval_precision: at least two networks must share a label, all labels differ")
    nearest = np.argsort(distances + np.diag(np.full(len(labels), np.inf)), axis=1)
    shares = [same[i, nearest[i, :r]].mean() for i, r in enumerate(counts) if r]
    return float(np.mean(shares))


@with_lists
def cluster_agreement(distances: np.ndarray, labels: np.ndarray) -> float:
    """Adjusted Rand index of average-linkage clusters, as many as there are labels, and the labels; 1 is perfect."""
    count = len(np.unique(labels))
    clusters = load("sklearn.cluster").AgglomerativeClustering(count, metric="precomputed", linkage="average")
    return float(load("sklearn.metrics").adjusted_rand_score(labels, clusters.fit_predict(distances)))


@with_lists
def planar_map(distances: np.ndarray) -> np.ndarray:
    """Points `[n, 2]` whose distances are near those given: classical multidimensional scaling (Torgerson 1952)."""
    centre = np.eye(len(distances)) - 1 / len(distances)
    values, vectors = np.linalg.eigh(-0.5 * centre @ distances.astype(np.float64) ** 2 @ centre)
    return vectors[:, :-3:-1] * np.sqrt(np.maximum(values[:-3:-1], 0.0))
