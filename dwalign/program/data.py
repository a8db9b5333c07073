"""Data: inputs that are any tree, with labels where a method needs them.

The first axis of every array in a tree holds the examples, and single numbers belong to all. Arrays that all examples
share, such as the one graph of a data set, have no such axis: the function that reads the inputs holds them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.shown import brief
from dwalign.symmetry import as_arrays, count_values, kind, of_numbers, take_rows

PyTree = Any


class Data(NamedTuple):
    """Inputs and labels, trees of `[m, ...]`; labels are None where nobody asks for them. Lists of numbers are arrays.

    A program of several inputs takes them as a tuple: `Data((tokens, mask))`.
    """

    inputs: PyTree
    labels: PyTree = None

    def __repr__(self):
        return f"Data(inputs={brief(self.inputs)}, labels={brief(self.labels)})"


def as_examples(inputs: PyTree) -> PyTree:
    """`as_arrays` of examples whose content does not matter; where there are but shapes and types, zeros."""
    # of random keys there are no zeros
    of_numbers = lambda leaf: not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct) and of_numbers(leaf)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype) if is_shape(leaf) else leaf, as_arrays(inputs))


def as_data(caller: str, data: Any) -> Any:
    """A pair (inputs, labels) as a `Data` of arrays, or None; raise `ValueError` for what is neither."""
    if data is None:
        return None
    # lists of numbers are one array, of two examples perhaps
    if not isinstance(data, tuple | list) or len(data) != 2 or of_numbers(data):
        found = f"{type(data).__name__} of {len(data)}" if isinstance(data, tuple | list) else type(data).__name__
        raise ValueError(
            f"{caller}: data must be Data(inputs [m, ...], labels [m]) or such a pair, got {found}; without labels "
            "they are Data(inputs), and inputs that are several arrays go into one tuple or dictionary"
        )
    return Data(*map(as_arrays, data))


def count_examples(tree: PyTree) -> int | None:
    """How many examples the arrays of `tree` hold; None where they do not agree, or there is no array."""
    counts = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(as_arrays(tree)) if jnp.ndim(leaf)}
    return counts.pop() if len(counts) == 1 else None


def take_examples(tree: PyTree, index: Any) -> PyTree:
    """The examples at `index` (integers, a list of them or a slice) of every array; those of NumPy stay there.

    >>> import numpy as np
    >>> data = Data({"tokens": np.array([[1, 2], [3, 4]]), "scale": 0.5})
    >>> take_examples(data, [1]).inputs["tokens"].tolist()
    [[3, 4]]
    """
    return jax.tree.map(lambda leaf: take_rows(leaf, index) if jnp.ndim(leaf) else leaf, as_arrays(tree))


def check_data(caller: str, data: Any, *, labels: bool = False) -> Data:
    """The data as a `Data`; a plain pair (inputs, labels) is one too.

    Args:
      caller: named in errors.
      data: what was given.
      labels: whether they are needed.

    Raises:
      ValueError: there are none, or no labels though they are needed; no examples or unequally many; something other
        than numbers, or NaN (where arrays are not traced). The message names the array.
    """
    wanted = "inputs and labels" if labels else "inputs"
    if data is None:
        raise ValueError(f"{caller}: needs data, Data({wanted.replace(' and', ',')}), got none; pass data=")
    data = as_data(caller, data)
    if labels and data.labels is None:
        raise ValueError(f"{caller}: needs labels, Data(inputs, labels), but these data have none")
    parts = {name: part for name, part in data._asdict().items() if part is not None}
    named = {
        f"{name}{jax.tree_util.keystr(path)}": leaf
        for name, part in parts.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
    }
    for name, leaf in named.items():
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            found = getattr(leaf, "dtype", type(leaf).__name__)
            raise ValueError(f"{caller}: {name} must be an array of numbers, found {found}; convert it") from error
        if jnp.issubdtype(dtype, jnp.inexact) and (bad := _count_nan(leaf)):
            raise ValueError(f"{caller}: data must be numbers, but {name} holds {bad} NaN; drop these examples")
    shapes = {name: jnp.shape(leaf) for name, leaf in named.items() if jnp.ndim(leaf)}
    counts = {shape[0] for shape in shapes.values()}
    whole = all(any(name.startswith(part) for name in shapes) for part in parts)
    if len(counts) != 1 or not whole or not min(counts):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        raise ValueError(
            f"{caller}: {' and '.join(parts)} must hold equally many examples and at least one, along the first axis "
            f"of every array, found shapes {found}; arrays that all examples share belong into the function"
        )
    return data


def shapes_of(tree: PyTree) -> tuple[Any, tuple[Any, ...]]:
    """The structure of a tree, shapes and types of its leaves: a key of what these tell."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef, tuple([(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else type(leaf) for leaf in leaves])


def check_values(caller: str, data: Data) -> None:
    """Raise `ValueError` for values in data that are no numbers, which neither shapes nor types tell."""
    if any(_count_nan(leaf) for leaf in jax.tree.leaves(tuple(data)) if kind(leaf) in ("float", "complex")):
        check_data(caller, data)


def _count_nan(leaf: Any) -> int:
    return 0 if isinstance(leaf, jax.core.Tracer) else count_values(np.asarray(leaf), np.isnan)
