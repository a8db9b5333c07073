"""A number for every array: one for all, or others for groups and for arrays that a pattern names."""

import fnmatch
import functools
from collections.abc import Mapping
from typing import TypeAlias

import jax
import numpy as np

from dwalign.bounds import real
from dwalign.symmetry.spec import PermutationSpec

Weight: TypeAlias = float | jax.Array
"""A scalar, such as the share of one network in an average."""
UNNAMED = 0.5
NUMBER = real("a finite number")


def leaf_weights(
    spec: PermutationSpec, weight: Weight | Mapping[str, Weight], *, caller: str = "interpolate"
) -> tuple[Weight, ...]:
    """The weight of every leaf, in the order of `spec.paths`.

    Args:
      spec: of the network.
      weight: a scalar for all, or a mapping. Its keys are groups, for all arrays that carry them, and patterns of
        `fnmatch` on paths with slashes, `params/dense_0/kernel`; of several that fit an array the last one counts, and
        arrays that none fits have 0.5.
      caller: named in errors.

    Raises:
      ValueError: a key that fits nothing, or a weight that is no scalar.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"up": {"w": Axes(None, "h")}, "head": {"w": Axes("h", None)}}, {"h": 2})
    >>> dict(zip(spec.paths, leaf_weights(spec, {"h": 0.3, "head/*": 0.0}), strict=True))
    {"['head']['w']": 0.0, "['up']['w']": 0.3}
    """
    named = weight if isinstance(weight, Mapping) else {"*": weight}
    found: list[Weight] = [UNNAMED] * len(spec.leaves)
    for key, value in named.items():
        if shape := np.shape(value):
            raise ValueError(f"{caller}: weight must be a scalar, found shape {shape}; jax.vmap over many of them")
        if not NUMBER.fits(value):
            raise ValueError(f"{caller}: weight must be a scalar, {NUMBER.text}, found {value!r:.80}")
        fits = _fitting(spec, key)
        if not fits and spec.leaves:
            raise ValueError(
                f"{caller}: {key!r} must be a group or fit the path of an array; the groups are "
                f"{list(spec.sizes)}, the paths {list(_names(spec)[:5])} and so on"
            )
        for number in fits:
            found[number] = value
    return tuple(found)


@functools.lru_cache(1024)
def _fitting(spec: PermutationSpec, key: str) -> tuple[int, ...]:
    if key in spec.sizes:
        return tuple(number for number, axes in enumerate(spec.leaves) if key in axes.names())
    return tuple(number for number, name in enumerate(_names(spec)) if fnmatch.fnmatchcase(name, key))


@functools.lru_cache(256)
def _names(spec: PermutationSpec) -> tuple[str, ...]:
    paths, _ = jax.tree_util.tree_flatten_with_path(spec.axes)
    return tuple(jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths)
