"""Data that methods take: a pair of inputs and labels, each any tree (`dwalign.program.take_examples`)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def read_batch(method: str, batch: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """Inputs and labels as JAX arrays, which traced indices may index.

    Raises:
      ValueError: `batch` is no pair, holds no examples or unequally many, something other than numbers, or NaN (where
        arrays are not traced). The message names the array.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        found = f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else type(batch).__name__
        raise ValueError(
            f"{method}: batch must be a pair (inputs [m, ...], labels [m]) of training data, got {found}; inputs that "
            "are several arrays go into one tuple or dictionary"
        )
    named = {
        f"{name}{jax.tree_util.keystr(path)}": leaf
        for name, part in zip(("inputs", "labels"), batch, strict=True)
        for path, leaf in jax.tree_util.tree_leaves_with_path(part)
    }
    for name, leaf in named.items():
        try:
            dtype = jnp.result_type(leaf)
        except TypeError as error:
            raise ValueError(f"{method}: {name} must be an array of numbers, found {type(leaf).__name__}") from error
        if jnp.issubdtype(dtype, jnp.inexact) and (bad := _count_nan(leaf)):
            raise ValueError(f"{method}: data must be numbers, but {name} holds {bad} NaN; drop these examples")
    shapes = {name: jnp.shape(leaf) for name, leaf in named.items() if jnp.ndim(leaf)}
    counts = {shape[0] for shape in shapes.values()}
    whole = all(any(name.startswith(part) for name in shapes) for part in ("inputs", "labels"))
    if len(counts) != 1 or not whole or not min(counts):
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        raise ValueError(
            f"{method}: inputs and labels must hold equally many examples and at least one, along the first axis of "
            f"every array, found shapes {found}; arrays that all examples share belong into the function"
        )
    return jax.tree.map(jnp.asarray, tuple(batch))


def _count_nan(leaf: Any) -> int:
    if isinstance(leaf, jax.core.Tracer):
        return 0
    xp = np if isinstance(leaf, np.ndarray) else jnp
    with jax.ensure_compile_time_eval():
        return int(xp.isnan(leaf).sum())
