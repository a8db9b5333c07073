"""Weights as safetensors: an array under the name of its path, read back bit for bit."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files.atomic import write_bytes

PyTree = Any
TYPES = {"bool", "bfloat16", "complex64"} | {f"float{bits}" for bits in (16, 32, 64)}
TYPES |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class FileError(RuntimeError):
    """A file that cannot be read or written."""


def save_params(file: Path, params: PyTree) -> None:
    """Write a tree of arrays as safetensors; the file appears whole or not at all.

    An array is named by its path, `params/dense_0/kernel`, and read back bit for bit.

    Raises:
      FileError: it could not be written, two arrays have one name, or an array is of a type that safetensors cannot
        give back: random keys, 8-bit floats, 4-bit integers, complex128, objects.
    """
    from safetensors.numpy import save

    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    flat = {name: _plain(file, name, leaf) for name, (_, leaf) in zip(_names(file, paths), paths, strict=True)}
    try:
        write_bytes(file, save(flat))
    except OSError as error:
        raise FileError(f"{file} could not be written ({error}); free space or choose another folder") from error


def load_params(file: Path, like: PyTree) -> PyTree:
    """Read what `save_params` wrote into the structure of `like`; leading axes may be added to its shapes.

    Raises:
      FileError: the file is damaged, or holds other arrays than `like`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        flat = load_file(file)
    except (SafetensorError, OSError) as error:
        raise FileError(f"{file} must be a whole safetensors file ({error}); delete it and run again") from error
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    names = _names(file, paths)
    if set(names) != set(flat):
        raise FileError(f"{file} must hold the arrays {sorted(names)}, found {sorted(flat)}; delete it and run again")
    for name, (_, leaf) in zip(names, paths, strict=True):
        shape = jnp.shape(leaf)
        if flat[name].shape[flat[name].ndim - len(shape) :] != shape:
            raise FileError(f"{file}: {name} must end in shape {shape}, found {flat[name].shape}")
    return treedef.unflatten([flat[name] for name in names])


def _names(file: Path, paths) -> list[str]:
    """The names of leaves on disk, each its own."""
    names: dict[str, str] = {}
    for path, _ in paths:
        name, text = (jax.tree_util.keystr(path, **style) for style in (dict(simple=True, separator="/"), {}))
        if name in names:
            raise FileError(
                f"{file}: each array must have a name of its own, but {names[name]} and {text} are both {name!r}"
            )
        names[name] = text
    return list(names)


def _plain(file: Path, name: str, leaf: Any) -> np.ndarray:
    """The leaf as safetensors takes it: of a type that it gives back, in the machine's byte order, rows first."""
    if jnp.issubdtype(getattr(leaf, "dtype", float), jax.dtypes.extended):
        raise FileError(f"{file}: {name} is a random key ({leaf.dtype}), write jax.random.key_data of it instead")
    array = np.asarray(leaf)
    if array.dtype.name not in TYPES:
        raise FileError(
            f"{file}: {name} must be of a type that safetensors gives back ({', '.join(sorted(TYPES))}), found "
            f"{array.dtype}; convert it"
        )
    # safetensors writes the memory as it lies, under the shape of the view
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
