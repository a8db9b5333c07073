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
    network: Network,
    inputs: jax.Array,
    labels: jax.Array,
    recipe: Recipe,
    loss: Callable | None = None,
    *,
    signals: bool = False,
) -> Callable[..., PyTree]:
    """A jitted function from seeds `[n]` to `n` trained networks, stacked along a leading axis.

    One program trains them all: vmapped over networks, scanned over epochs and steps.

    Args:
      network, recipe: what is trained, and how.
      inputs, labels: any trees, `[m, ...]` for all networks; with `signals` `[signals, m, ...]`.
      loss: `(outputs, labels) -> scalar`; mean softmax cross-entropy by default.
      signals: each network learns a signal of its own; the function then also takes their indices `[n]`.
    """
    count = jax.tree.leaves(labels)[0].shape[1 if signals else 0]
    steps = count // recipe.batch_size
    if steps < 1:
        raise ValueError(f"recipe: batch_size {recipe.batch_size} must not exceed the {count} training examples")
    loss = loss or cross_entropy
    train = network.train or (lambda params, x: (network.apply(params, x), params))
    optimizer = optax.adamw(recipe.learning_rate, weight_decay=recipe.weight_decay)

    def train_one(seed, *own):
        init_key, order_key = jax.random.split(jax.random.key(seed))
        params = network.init(init_key)

        def step(state, index):
            params, opt = state

            def objective(params):
                x, y = jax.tree.map(lambda leaf: jnp.asarray(leaf)[*own, index], (inputs, labels))
                outputs, after = train(params, x)
                return loss(outputs, y), after

            grads, after = jax.grad(objective, has_aux=True)(params)
            updates, opt = optimizer.update(grads, opt, params)
            params = optax.apply_updates(params, updates)
            return (params if network.train is None else {**after, "params": params["params"]}, opt), None

        def epoch(state, key):
            order = jax.random.permutation(key, count)[: steps * recipe.batch_size]
            return jax.lax.scan(step, state, order.reshape(steps, recipe.batch_size))

        keys = jax.random.split(order_key, recipe.epochs)
        return jax.lax.scan(epoch, (params, optimizer.init(params)), keys)[0][0]

    return jax.jit(jax.vmap(train_one))


def mean_squared_error(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over examples and values; outputs and labels `[m, d]`."""
    return ((outputs - labels) ** 2).mean()


def within(outputs: jax.Array, labels: jax.Array, *, tolerance: float = 0.1) -> jax.Array:
    """Which examples are met to `tolerance` in every value, `[m]`; outputs and labels `[m, d]`."""
    return jnp.abs(outputs - labels).max(-1) <= tolerance


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Share of correct predictions."""
    return (jnp.argmax(logits, -1) == labels).mean()
