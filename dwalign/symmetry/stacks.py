"""Many networks of one architecture, stacked along a leading axis of every array."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.symmetry.dtypes import dtype_of
from dwalign.symmetry.weights import wide

PyTree = Any


def stack_networks(networks: Sequence[PyTree]) -> PyTree:
    """The networks as one stacked tree, in arrays of JAX; of several types of an array the one that holds them all.

    >>> stack_networks([{"w": jnp.ones(2)}, {"w": jnp.zeros(2)}])["w"].tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """

    def stack(*leaves):
        if len({dtype_of(leaf) for leaf in leaves}) > 1:
            # JAX does not know it of 8-bit floats, say
            leaves = tuple(jnp.asarray(leaf, wide(dtype_of(leaf))) for leaf in leaves)
        return jnp.stack(leaves)

    return jax.tree.map(stack, *networks)


def count_networks(stacked: PyTree) -> int:
    """The number of networks in a stacked tree."""
    return jax.tree.leaves(stacked)[0].shape[0]


def take_networks(stacked: PyTree, index: Any) -> PyTree:
    """The networks with these indices; an integer gives one network, an array or a slice a stack.

    >>> import numpy as np
    >>> stacked = {"w": np.array([[1, 2], [3, 4], [5, 6]])}
    >>> count_networks(stacked), take_networks(stacked, 1)["w"].tolist(), take_networks(stacked, [0, 2])["w"].tolist()
    (3, [3, 4], [[1, 2], [5, 6]])
    """
    # a traced index needs an array of JAX
    traced = isinstance(index, jax.core.Tracer)
    return jax.tree.map(lambda leaf: (jnp.asarray(leaf) if traced else leaf)[index], stacked)
