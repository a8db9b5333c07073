"""Inputs are any tree; the first axis of every array in it holds the examples, and single numbers belong to all.

Arrays that all examples share, such as the one graph of a data set, have no such axis: the function that reads the
inputs holds them.
"""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def count_examples(tree: PyTree) -> int | None:
    """How many examples the arrays of `tree` hold; None where they do not agree, or there is no array."""
    counts = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(tree) if jnp.ndim(leaf)}
    return counts.pop() if len(counts) == 1 else None


def take_examples(tree: PyTree, index: Any) -> PyTree:
    """The examples at `index` (integers or a slice) of every array, of NumPy's too.

    >>> import numpy as np
    >>> batch = {"tokens": np.array([[1, 2], [3, 4]]), "scale": 0.5}
    >>> take_examples(batch, jnp.array([1]))["tokens"].tolist()
    [[3, 4]]
    """
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index] if jnp.ndim(leaf) else leaf, tree)
