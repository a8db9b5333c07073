"""Whether parameters are such as a spec describes."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.symmetry.axes import SpecError
from dwalign.symmetry.dtypes import kind

if TYPE_CHECKING:
    from dwalign.symmetry.spec import PermutationSpec

PyTree = Any


def fitting(spec: "PermutationSpec", params: PyTree, name: str) -> list[Any]:
    """The leaves of `params`, checked."""
    leaves, treedef = jax.tree.flatten(params)
    if treedef != spec.treedef:
        if leaves == [params]:
            raise SpecError(f"{name} must be parameters of the structure of the spec, got a {type(params).__name__}")
        found_paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        missing = [p for p in spec.paths if p not in found_paths]
        extra = [p for p in found_paths if p not in spec.paths]
        lists = missing and any(path.startswith(f"{missing[0]}[") for path in extra)
        # a state dict of torch is told by its tensors
        [kind(leaf) for leaf in leaves if hasattr(leaf, "dtype")]
        containers = f" (containers: spec {spec.treedef}, found {treedef}); use those of the spec"
        raise SpecError(
            f"{name} must have the structure of the spec: missing {first_few(missing)}, unexpected {first_few(extra)}"
            f"{'; give params of this network' if missing or extra else containers}"
            f"{'; lists of numbers are trees here, make them arrays (np.asarray)' if lists else ''}"
        )
    if misfit := _misfit(spec, tuple(map(_shape, leaves))):
        raise SpecError(name + misfit)
    return leaves


def check_pair(spec: "PermutationSpec", a: PyTree, b: PyTree) -> None:
    """See `PermutationSpec.check_pair`."""
    one, two = fitting(spec, a, "a"), fitting(spec, b, "b")
    if list(map(_numbers, one)) == list(map(_numbers, two)):
        return
    for path, x, y in zip(spec.paths, one, two, strict=True):
        if np.shape(x) != np.shape(y):
            raise SpecError(
                f"a and b must have the same shapes, but a{path} is {np.shape(x)} and b{path} is {np.shape(y)}; "
                "build both networks with the same inputs and outputs"
            )
        if kind(x) != kind(y):
            raise SpecError(
                f"a and b must hold the same kinds of numbers, but a{path} is {kind(x)} ({jnp.result_type(x)}) and "
                f"b{path} is {kind(y)} ({jnp.result_type(y)}); convert one of the networks"
            )


def _shape(leaf: Any) -> tuple[int, ...]:
    return leaf.shape if hasattr(leaf, "shape") else np.shape(leaf)


def _numbers(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and type of an array; for other leaves, which may have neither, nothing that is equal to another's."""
    return (leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else (np.shape(leaf), object())


@functools.lru_cache(4096)
def _misfit(spec: "PermutationSpec", shapes: tuple[tuple[int, ...], ...]) -> str:
    """The first of these shapes that the spec does not describe, its path and why; nothing where there is none."""
    for path, axes, expected_shape, shape in zip(spec.paths, spec.leaves, spec.lengths, shapes, strict=True):
        if len(shape) != len(axes.dims):
            return f"{path}: the spec says {len(axes.dims)} dimensions ({axes}), found shape {shape}"
        for d, expected in enumerate(expected_shape):
            if expected not in (None, shape[d]):
                return (
                    f"{path}: dimension {d} must be {axes.text(d)} = {expected}, found {shape[d]} in shape {shape}; "
                    "were the networks built with the same widths?"
                )
    return ""


def first_few(paths, shown=5):
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return f"{paths[:shown]}{more}" if paths else "nothing"
