"""Pairs of networks drawn from a zoo."""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def size(stacked: PyTree) -> int:
    """The number of networks in a stacked tree."""
    return jax.tree.leaves(stacked)[0].shape[0]


def take(stacked: PyTree, index: jax.Array) -> PyTree:
    """The networks with these indices; an integer gives one network, an array a stack."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def random_pairs(key: jax.Array, networks: int, count: int) -> tuple[jax.Array, jax.Array]:
    """Indices `[count]` and `[count]` of pairs of two different networks, with replacement between pairs."""
    first_key, offset_key = jax.random.split(key)
    first = jax.random.randint(first_key, (count,), 0, networks)
    offset = jax.random.randint(offset_key, (count,), 1, networks)
    return first, (first + offset) % networks


def held_out_pairs(networks: int) -> tuple[jax.Array, jax.Array]:
    """Disjoint pairs (0, 1), (2, 3), ...: every network is used once, so that pairs are independent."""
    index = jnp.arange(networks - networks % 2)
    return index[::2], index[1::2]
