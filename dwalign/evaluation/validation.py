"""How good a method is on average over held-out pairs: what chooses between aligners while they are trained."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dwalign.bounds import Count, bounded
from dwalign.deepalign import as_method
from dwalign.evaluation.interpolation import curve
from dwalign.matching import Method
from dwalign.processes import apart, over_devices
from dwalign.program import CLASSIFICATION, Data, Network, Task, as_arrays, as_data, compiled
from dwalign.symmetry import check_finite, count_networks, permute, take_networks

PyTree = Any


@bounded
def mean_barrier(
    network: Network,
    a: PyTree,
    b: PyTree,
    data: Data,
    *,
    task: Task = CLASSIFICATION,
    renew: PyTree = None,
    per_pair: bool = False,
    batch: Count = 1,
) -> Callable[[str | Method], float]:
    """The mean barrier at the midpoint of stacked pairs, as a function of the method that aligns them.

    It compiles once for a network, whichever pairs it is asked for, and divides these over the devices of the process.

    Args:
      network: what is aligned.
      a, b: stacked pairs, leaves `[p, ...]`.
      data: inputs and labels that pairs are judged on.
      task, renew: see `curve`.
      per_pair: each pair has data of its own, leaves `[p, m, ...]`.
      batch: pairs that a device takes at once; more than one are worth it on accelerators.

    Raises:
      ValueError: no pairs, other numbers of one than of another, or networks that are not finite.
    """
    data, renew = as_data("mean_barrier", data), as_arrays(renew)
    own, shared = ((a, b, data), None) if per_pair else ((a, b, None), data)
    # an index beyond the end would be the last one
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(own)}
    if len(counts) != 1 or not all(map(all, counts)) or () in counts:
        raise ValueError(
            f"mean_barrier: must get equally many a, b and data of pairs, at least one, found {sorted(counts)}"
        )
    for name, params in (("a", a), ("b", b)):
        check_finite("mean_barrier", network.spec, params, name)
    count, over = count_networks(a), over_devices()
    at_once = batch * over.num_devices
    # the last part repeats the last pair, so that all are one program
    parts = [
        jax.device_put(take_networks(own, np.minimum(np.arange(at_once) + k, count - 1)), over)
        for k in range(0, count, at_once)
    ]
    # what a training step leaves may lie on fewer devices
    everywhere = NamedSharding(over.mesh, PartitionSpec())
    shared, renew = jax.device_put((shared, renew), everywhere)

    def mean(method):
        method = jax.device_put(as_method(network, method), everywhere)
        # one after the other: a program that waits for the host may wait forever beside another
        found = [np.asarray(_judge(network, task, method, part, shared, renew)) for part in parts]
        return float(np.concatenate(found)[:count].mean())

    return mean


@compiled(2)
def _judge(network, task, method, pairs, shared, renew):
    over = over_devices()

    def one(method, shared, renew, a, b, own):
        moved = permute(network.spec, b, method(network, a, b).perms)
        return curve(network, a, moved, shared if own is None else own, points=3, task=task, renew=renew).barrier

    return apart(one, 3, over)(method, shared, renew, *pairs)
