"""How good a method is on average over held-out pairs: what chooses between aligners while they are trained."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dwalign.evaluation.interpolation import curve
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import count_networks, permute, take_networks

PyTree = Any


def mean_barrier(
    network: Network,
    a: PyTree,
    b: PyTree,
    data: Data,
    *,
    task: Task = CLASSIFICATION,
    renew: PyTree = None,
    per_pair: bool = False,
) -> Callable[[Method], float]:
    """The mean barrier at the midpoint of stacked pairs, as a function of the method that aligns them.

    It compiles once for a network, whichever pairs it is asked for.

    Args:
      network: what is aligned.
      a, b: stacked pairs, leaves `[p, ...]`.
      data: inputs and labels that pairs are judged on.
      task, renew: see `curve`.
      per_pair: each pair has data of its own, leaves `[p, m, ...]`.
    """
    own = (a, b, data) if per_pair else (a, b)
    parts = [take_networks(own, k) for k in range(count_networks(a))]
    judge = _judge(network, task)

    def mean(method):
        # one after the other: a program that waits for the host may wait forever beside another
        return float(np.mean([float(judge(method, *(part if per_pair else (*part, data)), renew)) for part in parts]))

    return mean


@functools.lru_cache(16)
def _judge(network: Network, task: Task):
    @jax.jit
    def one(method, a, b, data, renew):
        moved = permute(network.spec, b, method(network, a, b).perms)
        return curve(network, a, moved, data, points=3, task=task, renew=renew).barrier

    return one
