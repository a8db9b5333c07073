"""Networks out: many classifiers trained at once, each from its own seed and in its own data order."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dwalign.matching.objective import cross_entropy
from dwalign.networks import Network

PyTree = Any


class Recipe(NamedTuple):
    """How every network of a zoo is trained (AdamW, constant learning rate)."""

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4


def train_networks(
    network: Network, inputs: jax.Array, labels: jax.Array, recipe: Recipe, loss: Callable | None = None
) -> Callable[[jax.Array], PyTree]:
    """A jitted function from seeds `[n]` to `n` trained networks, stacked along a leading axis.

    One program trains them all: vmapped over networks, scanned over epochs and steps.
    """
    steps = len(labels) // recipe.batch_size
    if steps < 1:
        raise ValueError(f"recipe: batch_size {recipe.batch_size} must not exceed the {len(labels)} training images")
    loss = loss or cross_entropy
    optimizer = optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)

    def train_one(seed):
        init_key, order_key = jax.random.split(jax.random.key(seed))
        params = network.init(init_key)

        def step(state, index):
            params, opt = state
            grads = jax.grad(lambda p: loss(network.apply(p, inputs[index]), labels[index]))(params)
            updates, opt = optimizer.update(grads, opt, params)
            return (optax.apply_updates(params, updates), opt), None

        def epoch(state, key):
            order = jax.random.permutation(key, len(labels))[: steps * recipe.batch_size]
            return jax.lax.scan(step, state, order.reshape(steps, recipe.batch_size))

        keys = jax.random.split(order_key, recipe.epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), keys)[0][0]

    return jax.jit(jax.vmap(train_one))


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of correct predictions."""
    return (jnp.argmax(logits, -1) == labels).mean()
