"""Batch statistics of merged networks: those of averaged weights are not the average of those of the two."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.bounds import Count, bounded
from dwalign.program import (
    Data,
    Network,
    check_inputs,
    check_network,
    compiled,
    count_examples,
    loops,
    spec_of,
    take_examples,
)
from dwalign.symmetry import PermutationSpec, leaf_roles, part_of

PyTree = Any


@bounded
def reset_statistics(network: Network, params: PyTree, inputs: PyTree, *, chunk: Count = 500) -> PyTree:
    """Recompute batch statistics on data, as networks need it after merging (Jordan et al. 2023, REPAIR).

    Args:
      network, params: networks without batch statistics come back as they are.
      inputs: `[m, ...]`, training inputs.
      chunk: inputs of one batch; statistics are averaged over the batches, a last smaller one is left out.

    Returns:
      params with the statistics of the hidden units on these inputs.

    Raises:
      ValueError: inputs that are none, or that the network does not take.
    """
    check_network("reset_statistics", network)
    if network.train is None:
        return params
    inputs = check_inputs("reset_statistics", network.apply, params, inputs)
    count: Any = count_examples(inputs)
    _, put = part_of(network.spec, params, "statistic")
    return put(_statistics(network, min(chunk, count), params, inputs))


# a second network compiles nothing
@compiled(2, inline=True)
def _statistics(network: Network, chunk: int, params: PyTree, inputs: PyTree) -> list[jax.Array]:
    train, count = network.train, count_examples(inputs)
    assert train is not None and count is not None
    batches = jnp.arange(count // chunk * chunk).reshape(-1, chunk)
    of = lambda index: part_of(network.spec, train(params, take_examples(inputs, index))[1], "statistic")[0]
    return [leaf.mean(0) for leaf in loops.map(of, batches)]


def renewed(
    network: Network | PermutationSpec,
    merged: PyTree,
    data: Data | None,
    renew: Callable[[PyTree], PyTree] | None,
) -> PyTree:
    """What merging does last: statistics by `renew`, or else on data where the network can, or else a warning."""
    if renew is not None:
        if not callable(renew):
            raise ValueError(
                f"merge: renew must be a function of params, found {type(renew).__name__}; inputs go into "
                "data=Data(inputs)"
            )
        return renew(merged)
    if isinstance(network, Network) and network.train is not None and data is not None:
        return reset_statistics(network, merged, data[0])
    if stale := find_stale(spec_of("merge", network), merged):
        warnings.warn(
            f"merge: the statistics {stale} are the average of those of a and b, but must be renewed for the merged "
            "weights: pass a Network with train and data=Data(inputs), or renew=, your own function of params that "
            "computes them on training inputs (renew=lambda params: params keeps the average)",
            stacklevel=4,
        )
    return merged


def find_stale(spec: PermutationSpec, params: PyTree) -> str:
    """The statistics of units in words, which merged weights need anew; "" where there are none."""
    leaves = zip(spec.paths, spec.leaves, leaf_roles(spec, params), strict=True)
    stale = [path for path, axes, role in leaves if role == "statistic" and axes.names() & set(spec.sizes)]
    return ", ".join(stale[:3]) + (f" and {len(stale) - 3} more" if len(stale) > 3 else "")
