"""A model of another package as a function of its weights, and weights that hide nothing."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.frontends import open_model

PyTree = Any


class Case(NamedTuple):
    """Attributes:
    apply: `(params, *inputs) -> outputs`.
    params: all arrays of the model, statistics and counters too.
    inputs: what apply takes beside them, at least two examples.
    """

    apply: Callable[..., PyTree]
    params: PyTree
    inputs: tuple[PyTree, ...]


def opened(model: Any, *inputs: PyTree, **options: Any) -> Case:
    """What the library makes of a model, see `dwalign.frontends.open_model`."""
    found = open_model(model, *inputs, **options)
    return Case(found.apply, found.params, inputs)


def drawn(params: PyTree, seed: int = 0) -> PyTree:
    """The parameters with random values in place of constant ones: zero biases, scales of one, fresh statistics.

    What was positive stays so. Arrays that are random already, integers and everything else are kept; what is only a
    shape is drawn, vectors positive, since they may be scales or variances.
    """
    rng = np.random.default_rng(seed)

    def draw(leaf):
        shape, dtype = getattr(leaf, "shape", ()), getattr(leaf, "dtype", None)
        abstract = isinstance(leaf, jax.ShapeDtypeStruct)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            return np.zeros(shape, dtype) if abstract else leaf
        if abstract:
            noise = rng.standard_normal(shape)
            vector = not shape or math.prod(shape) == max(shape)
            return (np.exp(0.3 * noise) if vector else noise / math.sqrt(math.prod(shape[:-1]))).astype(dtype)
        value = np.asarray(leaf)
        if not value.size or np.ptp(value.astype(np.float64)) > 0:
            return value
        noise = 0.3 * rng.standard_normal(value.shape)
        return (np.exp(noise) if value.flat[0] > 0 else noise).astype(value.dtype)

    return jax.tree.map(draw, params)


def images(size: int, *, count: int = 2, channels: int = 3, first: bool = False) -> np.ndarray:
    """Random pictures; `first` puts the channels in front, as torch has them."""
    shape = (count, channels, size, size) if first else (count, size, size, channels)
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def vectors(*shape: int) -> np.ndarray:
    """Random inputs of any other shape."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def tokens(length: int, vocabulary: int, *, count: int = 2) -> np.ndarray:
    """Random token numbers; the lowest are left out, which mark padding and the like in most vocabularies."""
    return np.random.default_rng(1).integers(5, vocabulary, (count, length)).astype(np.int32)
