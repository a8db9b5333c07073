"""How good a method is on average over held-out pairs: what chooses between aligners while they are trained."""

from collections.abc import Callable
from typing import Any

import jax

from dwalign.evaluation.interpolation import curve
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import permute

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
) -> Callable[[Method], jax.Array]:
    """The mean barrier at the midpoint of stacked pairs, as a compiled function of the method that aligns them.

    Args:
      network: what is aligned.
      a, b: stacked pairs, leaves `[p, ...]`.
      data: inputs and labels that pairs are judged on.
      task, renew: see `curve`.
      per_pair: each pair has data of its own, leaves `[p, m, ...]`.
    """

    @jax.jit
    def mean(method):
        def one(pair):
            a, b, *own = pair
            moved = permute(network.spec, b, method(network, a, b).perms)
            return curve(network, a, moved, *(own or (data,)), points=3, task=task, renew=renew).barrier

        return jax.lax.map(one, (a, b, *((data,) if per_pair else ()))).mean()

    return mean
