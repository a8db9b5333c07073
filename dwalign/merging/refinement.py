"""Refinement of many networks: gradient steps on the scores of all, down the loss of their mean.

What `dwalign.matching.refine` does at the midpoint of two.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.assignment import hungarian, soft_assign
from dwalign.matching.objective import loss_of, standardise, start_scores
from dwalign.matching.refine import SPREAD
from dwalign.program import Data, Network, Task, compiled, loops
from dwalign.symmetry import Alignment, mean, permute, stack_networks, take_networks

PyTree = Any
Perms = dict[str, jax.Array]


def refine_mean(
    network: Network,
    networks: Sequence[PyTree],
    start: Sequence[Perms],
    data: Data,
    task: Task,
    *,
    steps: int = 50,
    learning_rate: float = 0.3,
    momentum: float = 0.5,
) -> list[Perms]:
    """Lower the loss of the mean of the softly aligned networks, from permutations of each.

    Args:
      network, networks: what is aligned.
      start: for each network its permutations; they are returned where those of the last step merge worse.
      data: labelled training data, all of which are used in every step.
      task: what the networks are for.
      steps, learning_rate, momentum: as for `refine`.
    """
    stacked, begun = map(stack_networks, (networks, start))
    found = _descend(network, task, steps, learning_rate, momentum, stacked, begun, Data(*data))
    return [take_networks(found, k) for k in range(len(networks))]


@compiled(3)
def _descend(network, task, steps, learning_rate, momentum, stacked, begun, data) -> Perms:
    spec, loss = network.spec, loss_of(network, task)
    count = jax.tree.leaves(begun)[0].shape[0]

    def merged_loss(plans):
        moved = jax.vmap(functools.partial(permute, spec))(stacked, plans)
        return loss(mean(spec, [take_networks(moved, k) for k in range(count)]), data)

    def objective(scores):
        return merged_loss(soft_assign(scores, iterations=10, solver="scaling"))

    def step(state, rate):
        scores, velocity = state
        unit = lambda g: g * jax.lax.rsqrt(jnp.mean(g**2, range(1, g.ndim), keepdims=True) + 1e-20)
        grads = jax.grad(objective)(scores)
        velocity = jax.tree.map(lambda v, g: momentum * v + unit(g), velocity, grads)
        return (jax.tree.map(lambda q, v: q - rate.astype(q.dtype) * v, scores, velocity), velocity), None

    scores = jax.vmap(lambda perms: standardise(start_scores(Alignment(perms)), SPREAD))(begun)
    rates = learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.arange(steps) / max(steps, 1)))
    (scores, _), _ = loops.scan(step, (scores, jax.tree.map(jnp.zeros_like, scores)), rates)
    ended = hungarian(scores)
    worse = merged_loss(begun) < merged_loss(ended)
    return jax.tree.map(lambda x, y: jnp.where(worse, x, y), begun, ended)
