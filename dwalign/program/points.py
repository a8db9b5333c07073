"""Generic weights and inputs inside the domain of a program: points at which a wrong spec shows.

A symmetry holds for all weights and inputs, so the point may be chosen. Zero biases, equal units or a LayerScale of
1e-6 would hide a wrong spec; a negative variance or a token outside the vocabulary would leave the domain. What an
array holds tells its domain: values are mixed with one another and so stay between the smallest and the largest; what
is the same everywhere is spread by factors near one, so that it keeps its sign; only zeros are drawn anew.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# a prime number of random values
POOL = 1_000_003
# what is drawn by which rule; each point is more careful than those before it
FRESH, GENERIC, POSITIVE, SLIGHT, GIVEN = range(5)


def points(leaves: Sequence, weights: int, positive: frozenset[int], rng: np.random.Generator) -> Iterator[list]:
    """From the most generic to the point that was given.

    Args:
      leaves: arrays, or `jax.ShapeDtypeStruct` of those that are to be drawn; the first `weights` are parameters.
      positive: the numbers of those that must be positive.

    Returns:
      lists of NumPy arrays: floating values in single precision at least, others in their type.
    """
    abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    for care in (GENERIC, POSITIVE, SLIGHT) if abstract else (GENERIC, POSITIVE, SLIGHT, GIVEN):
        yield point(leaves, weights, positive, rng, care)


def point(leaves: Sequence, weights: int, positive: frozenset[int], rng: np.random.Generator, care: int) -> list:
    """One point; `FRESH` draws all weights anew."""
    return [_leaf(leaf, k < weights, k in positive, rng, care) for k, leaf in enumerate(leaves)]


def _leaf(leaf: Any, weight: bool, positive: bool, rng: np.random.Generator, care: int) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf
    abstract = isinstance(leaf, jax.ShapeDtypeStruct)
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return _counted(leaf, abstract, weight, rng, care)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        parts = [leaf, leaf] if abstract else [np.real(leaf), np.imag(leaf)]
        real, imaginary = (_real(part, np.float64, abstract, weight, positive, rng, care) for part in parts)
        return (real + 1j * imaginary).astype(leaf.dtype)
    return _real(leaf, stored_type(leaf.dtype), abstract, weight, positive, rng, care)


def stored_type(dtype: Any) -> Any:
    """The type in which points hold values of a type: single precision at least."""
    floating = jnp.issubdtype(dtype, jnp.floating)
    return np.dtype(np.float32) if floating and jnp.finfo(dtype).bits < 64 else dtype


def _counted(leaf, abstract: bool, weight: bool, rng: np.random.Generator, care: int) -> np.ndarray:
    """Tokens, masks and counters stay in the range that was seen; those of any vocabulary lie in {0, 1}."""
    if abstract:
        return rng.integers(0, 2, leaf.shape).astype(leaf.dtype)
    value = np.asarray(leaf)
    if weight or care >= SLIGHT or value.dtype == bool or value.size < 2 or np.any(value != value.flat[0]):
        return value
    return rng.integers(0, max(int(value.flat[0]), 1) + 1, value.shape).astype(value.dtype)


def _real(leaf, dtype, abstract: bool, weight: bool, positive: bool, rng: np.random.Generator, care: int) -> np.ndarray:
    if abstract or (weight and care == FRESH):
        return _drawn(rng, leaf.shape, weight, positive, care).astype(dtype)
    value = np.asarray(leaf, dtype)
    low, high = (value.min(), value.max()) if value.size else (0, 0)
    if care == GIVEN or not np.isfinite([low, high]).all() or (care == SLIGHT and low == high == 0):
        return value
    if low == high == 0:
        return _drawn(rng, leaf.shape, weight, positive, care).astype(dtype)
    strength = 0.01 if care == SLIGHT else 0.5
    if high - low < 0.1 * max(-low, high):
        value = value * np.exp(strength * _pooled(rng.standard_normal, leaf.shape))
    else:
        # beside each value another of the same array
        other = np.roll(value.reshape(-1), rng.integers(1, value.size)).reshape(value.shape)
        other -= value
        other *= strength * _pooled(rng.random, leaf.shape)
        value = value + other
    if weight and care < SLIGHT:
        # what a small factor lets through would be as small
        least, found = 0.1 / math.sqrt(_fan_in(leaf.shape)), math.sqrt(np.mean(np.square(value, dtype=np.float64)))
        value = value * max(1.0, least / found)
    return value.astype(dtype)


def _drawn(rng: np.random.Generator, shape, weight: bool, positive: bool, care: int) -> np.ndarray:
    if care == SLIGHT:
        return (0.1 + 0.8 * _pooled(rng.random, shape)) / (_fan_in(shape) if weight else 1)
    # vectors of weights are biases, scales and variances: positive is safe for each of them
    if positive or care == POSITIVE or (weight and len(shape) < 2):
        return np.exp(0.3 * _pooled(rng.standard_normal, shape)) / (1 if positive or not weight else _fan_in(shape))
    if not weight:
        return _pooled(rng.standard_normal, shape)
    # uniform of variance 1 / fan-in; normal values would take three times as long
    values = _pooled(rng.random, shape)
    values -= 0.5
    values *= math.sqrt(12 / _fan_in(shape))
    return values


def _fan_in(shape) -> int:
    return max(math.prod(shape[:-1]), 1)


def _pooled(draw: Callable, shape) -> np.ndarray:
    """Random values; those of large arrays repeat with a prime period, so that no two rows or columns are alike."""
    count = math.prod(shape)
    return np.resize(draw(min(count, POOL), np.float32), shape) if count else np.zeros(shape, np.float32)
