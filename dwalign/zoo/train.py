"""Networks out: many classifiers trained at once, each from its own seed and in its own data order."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.program import CLASSIFICATION, Data, Network, Task, check_data, check_network, check_task, loops
from dwalign.symmetry import part_of
from dwalign.zoo.recipe import Recipe

PyTree = Any


def train_networks(
    network: Network, data: Data, recipe: Recipe, task: Task = CLASSIFICATION, *, signals: bool = False
) -> Callable[..., PyTree]:
    """A jitted function from seeds `[n]` to `n` trained networks, stacked along a leading axis.

    One program trains them all: vmapped over networks, scanned over epochs and steps. Batch statistics, counters and
    random keys are what `network.train` makes of them.

    Args:
      network, recipe: what is trained, and how.
      data: inputs and labels, trees of `[m, ...]` for all networks; with `signals` of `[signals, m, ...]`.
      task: what they are trained for.
      signals: each network learns a signal of its own; the function then also takes their indices `[n]`.

    Raises:
      ValueError: a batch larger than the data, data that the task cannot judge, or a network of which nobody
        knows how it is initialised.
    """
    train = train_further(network, data, recipe, task, signals=signals)

    def train_one(seed, *own):
        init_key, order_key = jax.random.split(jax.random.key(seed))
        return train(network.init(init_key), order_key, *own)

    @jax.jit
    def train_all(*numbers):
        # lists are arrays here, too
        numbers = [jnp.asarray(one) for one in numbers]
        if any(one.ndim != 1 for one in numbers):
            raise ValueError(f"train_networks: seeds must be [n], found shapes {[one.shape for one in numbers]}")
        return jax.vmap(train_one)(*numbers)

    return train_all


def train_further(
    network: Network, data: Data, recipe: Recipe, task: Task = CLASSIFICATION, *, signals: bool = False
) -> Callable[..., PyTree]:
    """A function from one network, and the key that draws the order of its data, to the network after more training.

    To be vmapped and jitted; the optimiser starts afresh. Arguments and errors are those of `train_networks`.
    """
    check_network("train_networks", network)
    data = check_data("train_networks", data, labels=True)
    one = jax.tree.map(lambda leaf: leaf[0], data) if signals else data
    check_task("train_networks", task, network.apply, network.params, one)
    count = jax.tree.leaves(data.labels)[0].shape[1 if signals else 0]
    steps = count // recipe.batch_size
    if steps < 1:
        raise ValueError(f"recipe: batch_size {recipe.batch_size} must not exceed the {count} training examples")
    spec = network.spec
    train = network.train or (lambda params, x: (network.apply(params, x), params))
    optimizer = optax.adamw(recipe.rate(recipe.epochs * steps), weight_decay=recipe.weight_decay)

    def train_one(params, order_key, *own):
        def step(state, index):
            params, opt = state
            learned, put = part_of(spec, params, "weight", "fixed")

            def objective(learned):
                batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[*own, index], data)
                outputs, after = train(put(learned), batch.inputs)
                return task.loss(outputs, batch.labels), after

            grads, after = jax.grad(objective, has_aux=True)(learned)
            updates, opt = optimizer.update(grads, opt, learned)
            return (part_of(spec, after, "weight", "fixed")[1](optax.apply_updates(learned, updates)), opt), None

        def epoch(state, key):
            order = jax.random.permutation(key, count)[: steps * recipe.batch_size]
            return loops.scan(step, state, order.reshape(steps, recipe.batch_size))

        keys = jax.random.split(order_key, recipe.epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(part_of(spec, params, "weight", "fixed")[0])), keys)[0][0]

    return train_one
