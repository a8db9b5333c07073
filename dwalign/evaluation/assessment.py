"""One network on the whole of a data set: its loss and its accuracy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.bounds import Count, bounded
from dwalign.program import (
    CLASSIFICATION,
    Data,
    Network,
    Task,
    check_data,
    check_network,
    check_task,
    compiled,
    count_examples,
    loops,
    take_examples,
)

PyTree = Any


class Assessment(NamedTuple):
    """Mean loss over all examples, and the share of them that count as right; scalars."""

    loss: jax.Array
    accuracy: jax.Array


@bounded
def assess(
    network: Network, params: PyTree, data: Data, *, task: Task = CLASSIFICATION, chunk: Count = 2048
) -> Assessment:
    """Loss and accuracy of one network on the whole of `data`, under `jit` and `vmap` too.

    Args:
      network, params: what is judged, with the statistics that it has.
      data: inputs and labels, trees of `[m, ...]`.
      task: what the networks are for.
      chunk: examples that are evaluated at once; changes memory and time, not the result.

    Raises:
      ValueError: a chunk below 1, or data that the task cannot judge.
    """
    return _assess(network, task, chunk, params, check_judged("assess", network, params, data, task))


# a second network compiles nothing
@compiled(3, inline=True)
def _assess(network: Network, task: Task, chunk: int, params: PyTree, data: Data) -> Assessment:
    alone = lambda tree: jax.tree.map(lambda leaf: leaf[None], tree)
    each = jax.vmap(lambda output, label: task.lost(alone(output), alone(label)))
    count: Any = count_examples(data)
    chunk = min(chunk, count)
    index = jnp.arange(count + -count % chunk).reshape(-1, chunk)

    def part(index):
        inside = index < count
        inputs, labels = take_examples(data, jnp.minimum(index, count - 1))
        outputs = network.apply(params, inputs)
        right = task.hits(outputs, labels).astype(jnp.float32)
        return jnp.stack([jnp.where(inside, each(outputs, labels), 0.0).sum(), (right * inside).sum()])

    return Assessment(*loops.map(part, index).sum(0) / count)


def check_judged(caller: str, network: Network, params: PyTree, data: Data, task: Task) -> Data:
    """The data as a `Data`; raise `ValueError` unless `task` can judge the network by them."""
    check_network(caller, network)
    data = check_data(caller, data, labels=True)
    check_task(caller, task, network.apply, params, data)
    return data
