"""Arithmetic on weights: between two networks, the distance of two, noise on one.

All of it is done in float32 (float64 where an array holds that), whatever the arrays are stored as, and results are
stored as the arrays of the first network were. `dwalign.symmetry.weights` says which arrays take part.
"""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Strength, bounded
from dwalign.files import put_off, read_leaf
from dwalign.symmetry.action import permute_block
from dwalign.symmetry.axes import SpecError, namespace
from dwalign.symmetry.dtypes import is_traced
from dwalign.symmetry.guards import check_key
from dwalign.symmetry.layers import Weight, leaf_weights
from dwalign.symmetry.spec import Block, PermutationSpec
from dwalign.symmetry.weights import leaf_roles, numbers, store

PyTree = Any


def interpolate(spec: PermutationSpec, a: PyTree, b: PyTree, weight: Weight | Mapping[str, Weight] = 0.5) -> PyTree:
    """`(1 - weight) a + weight b`, in the types of a.

    The weight may be another for every layer, see `leaf_weights`. Integer weights are rounded to the nearest. What
    nothing is computed with (masks, keys, counters) is that of a. Differentiable in all but integers; NumPy arrays give
    NumPy arrays where the weight is not traced.

    Raises:
      ValueError: the weight is no scalar, or names nothing.

    >>> from dwalign.symmetry import Axes, PermutationSpec
    >>> spec = PermutationSpec({"w": Axes("h"), "step": Axes()}, {"h": 2})
    >>> a, b = {"w": np.int8([3, -4]), "step": 7}, {"w": np.int8([10, 0]), "step": 9}
    >>> interpolate(spec, a, b, 0.25)
    {'step': 7, 'w': array([ 5, -3], dtype=int8)}
    """
    weights = leaf_weights(spec, weight)
    return _combine(spec, [a, b], [[1 - w for w in weights], weights])


def mean(spec: PermutationSpec, networks: Sequence[PyTree], weights: Sequence[Weight] | None = None) -> PyTree:
    """The mean of networks, in the types of the first; all else as `interpolate`, the mean of two.

    Args:
      spec: of all of them.
      networks: parameters, at least one.
      weights: one a network, of which shares are taken; equal by default.

    Raises:
      ValueError: not one weight a network, or a sum of 0, NaN or infinity.

    >>> from dwalign.symmetry import Axes, PermutationSpec
    >>> spec = PermutationSpec({"w": Axes("h")}, {"h": 2})
    >>> mean(spec, [{"w": np.float32([x, 0])} for x in (0, 3, 6)], weights=[1, 1, 2])
    {'w': array([3.75, 0.  ], dtype=float32)}
    """
    weights = [1.0] * len(networks) if weights is None else weights
    if len(weights) != len(networks) or not networks:
        raise ValueError(f"mean: needs a weight for every network, found {len(weights)} for {len(networks)} networks")
    total: Any = sum(weights)
    if not is_traced(total) and not (np.isfinite(total) and total):
        raise ValueError(f"mean: weights must have a sum that they can be shares of, found {total}")
    return _combine(spec, networks, [leaf_weights(spec, weight / total) for weight in weights])


def _combine(spec: PermutationSpec, networks: Sequence[PyTree], weights: Sequence[Sequence[Weight]]) -> PyTree:
    """The sum of networks, each leaf with a weight of its own, `weights[network][leaf]`."""

    def mix(role, leaves, weights):
        if role == "carried":
            return leaves[0]
        on_host = not is_traced(weights) and namespace(*leaves) is np
        return _weighted(leaves, weights, np) if on_host else _weighted_by_jax(leaves, weights)

    _check_alike("average", spec, networks)
    flat = [spec.treedef.flatten_up_to(params) for params in networks]
    if is_traced((flat, weights)):
        # no number of a trace is there any more when a file is read
        flat = jax.tree.map(read_leaf, flat)
    columns = (zip(*rows, strict=True) for rows in (flat, weights))
    rows = zip(leaf_roles(spec, networks[0]), *columns, strict=True)
    mixed = (put_off(lambda *leaves, role=role, w=w: mix(role, leaves, w), *leaves) for role, leaves, w in rows)
    return spec.treedef.unflatten(list(mixed))


def _weighted(leaves: Sequence[Any], weights: Sequence[Any], xp: Any) -> Any:
    """The sum of arrays with these weights."""
    first, *others = arrays = [numbers(leaf, xp) for leaf in leaves]
    # nothing times infinity is no number, but a mask of minus infinity lies between those of its kind
    masked = functools.reduce(lambda found, other: found & (first == other), others, xp.isinf(first))
    terms = [
        xp.asarray(weight, first.dtype) * xp.where(masked, 0, array)
        for weight, array in zip(weights, arrays, strict=True)
    ]
    return store(xp.where(masked, first, functools.reduce(operator.add, terms)), leaves[0], xp)


# one program for each shape, in place of one for each of its operations
_weighted_by_jax = jax.jit(functools.partial(_weighted, xp=jnp))


def _check_alike(caller: str, spec: PermutationSpec, networks: Sequence[PyTree]) -> None:
    # of leaves that lie in a file too, which are not to be read for it
    shape = lambda leaf: tuple(leaf.shape) if hasattr(leaf, "shape") else np.shape(leaf)
    for path, first, *others in zip(spec.paths, *map(spec.treedef.flatten_up_to, networks), strict=True):
        if wrong := [other for other in others if shape(other) != shape(first)]:
            raise SpecError(
                f"{caller}: networks must have the same shapes, but {path} has {shape(first)} and {shape(wrong[0])}"
            )


def distance(spec: PermutationSpec, a: PyTree, b: PyTree) -> jax.Array:
    """The Euclidean distance |a - b| over all weights and fixed arrays; statistics do not count.

    Its gradient is 0 where the networks are equal. NumPy arrays give a NumPy scalar.
    """

    _check_alike("distance", spec, (a, b))
    part = lambda x, y: _square(x, y, np) if namespace(x, y) is np else _square_by_jax(x, y)
    pairs = zip(leaf_roles(spec, a), *map(spec.treedef.flatten_up_to, (a, b)), strict=True)
    square = sum((part(x, y) for role, x, y in pairs if role in ("weight", "fixed")), np.float32(0))
    xp = namespace(square)
    # the slope of the root at 0 is infinite, and 0 times that is NaN even where the other branch is taken
    equal = square == 0
    return xp.where(equal, 0, xp.sqrt(xp.where(equal, 1, square)))[()]


def _square(x: Any, y: Any, xp: Any) -> Any:
    """|x - y|^2 of two arrays."""
    x, y = numbers(x, xp), numbers(y, xp)
    equal = x == y
    # of two masks of minus infinity the difference is no number
    return xp.sum((xp.where(equal, 0, x) - xp.where(equal, 0, y)) ** 2)


_square_by_jax = jax.jit(functools.partial(_square, xp=jnp))


def inner_product(blocks_a: Sequence[Block], blocks_b: Sequence[Block]) -> jax.Array:
    """<a, b> over the weights, each as `weight_blocks`; of complex ones the real part."""
    return sum((dot(x.array, y.array) for x, y in zip(blocks_a, blocks_b, strict=True)), np.float32(0))


def dot(x: Any, y: Any) -> Any:
    """<x, y> of two arrays of real numbers."""
    return np.vdot(x, y) if namespace(x, y) is np else jnp.vdot(x, y, precision="highest")


def permute_blocks(spec: PermutationSpec, blocks: Sequence[Block], perms: dict[str, jax.Array]) -> list[Block]:
    """`permute` for the weights alone, as `weight_blocks`; perms may be soft."""
    return [permute_block(spec, block, perms) for block in blocks]


def root_mean_square(array: jax.Array) -> jax.Array:
    """The size that noise is relative to."""
    return jnp.sqrt(jnp.mean(array**2))


@bounded
def perturb(
    spec: PermutationSpec,
    params: PyTree,
    key: jax.Array,
    noise: Strength,
    *,
    spread: Callable[[jax.Array], jax.Array] = root_mean_square,
) -> PyTree:
    """Gaussian noise on all arrays that are averaged, too.

    Args:
      spec, params: what is disturbed.
      key: draws the noise.
      noise: its standard deviation, in units of the `spread` of each array. Arrays of positive values, such as
        variances, are multiplied by its exponential and stay positive.
      spread: array to scalar.
    """
    check_key("perturb", key)
    roles, leaves = leaf_roles(spec, params), spec.treedef.flatten_up_to(params)
    arrays = [numbers(leaf) if role != "carried" else None for role, leaf in zip(roles, leaves, strict=True)]
    # drawn at once for all arrays: compiling a draw for each takes longer than all else
    ends = np.cumsum([0 if x is None else math.prod(x.shape) for x in arrays], dtype=int)
    drawn = jax.random.normal(key, (ends[-1] if len(ends) else 0,))

    def disturb(leaf, x, end):
        if x is None:
            return leaf
        own = drawn[end - x.size : end].reshape(x.shape)
        return store(_disturbed(x, own, noise, spread(x)), leaf)

    return spec.treedef.unflatten([disturb(*one) for one in zip(leaves, arrays, ends.tolist(), strict=True)])


@jax.jit
def _disturbed(x: jax.Array, drawn: jax.Array, noise: jax.Array, spread: jax.Array) -> jax.Array:
    eps = noise * drawn.astype(x.dtype)
    positive = jnp.min(x, initial=jnp.inf) > 0
    return jnp.where(positive, x * jnp.exp(eps), x + eps * spread).astype(x.dtype)
