"""Which numbers arrays hold, and whether they are known."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.symmetry.axes import SpecError


def kind(leaf: Any) -> str:
    """Which kind of numbers a leaf holds: float, complex, integer or bool; or "a random key"."""
    return kind_of(dtype_of(leaf))


def dtype_of(leaf: Any) -> Any:
    """The type of an array, or the one that JAX gives a number."""
    # most leaves know their type: to ask JAX for it takes longer than all else that is asked of them
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def is_traced(tree: Any) -> bool:
    """Whether some of the leaves have no numbers yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


@functools.cache
def kind_of(dtype: Any) -> str:
    """`kind` of arrays of this type."""
    kinds = {"float": jnp.floating, "complex": jnp.complexfloating, "integer": jnp.integer, "bool": jnp.bool_}
    try:
        return next((name for name, of in kinds.items() if jnp.issubdtype(dtype, of)), "a random key")
    except TypeError as error:
        raise SpecError(
            f"params must be arrays of NumPy or JAX, found one of type {dtype}; those of a model are "
            "dwalign.frontends.open_model(model).params"
        ) from error
