"""Weights on disk in every format, written tensor by tensor."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files import orbax, safetensors
from dwalign.files.atomic import whole
from dwalign.files.errors import FileError, few
from dwalign.files.names import match
from dwalign.files.opened import FORMATS
from dwalign.files.suffixes import LISTED, SUFFIXES
from dwalign.files.tensors import LazyArray, Weights, Writing


def write_weights(
    path: str | Path,
    tensors: Mapping[str, Any],
    *,
    like: Weights | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = False,
    inputs: Iterable[str | Path] = (),
) -> None:
    """Write tensors, one at a time, so that the file appears whole or not at all.

    Each is `np.asarray(tensors[name])`, asked for when it is written and dropped before the next: arrays,
    `LazyArray`s, or a mapping that computes. Formats of one piece (Orbax) hold all of them.

    Args:
      path: its suffix is the format; a folder where `like` is shards or Orbax.
      tensors: by name.
      like: order, types, ties, metadata, shards and everything that is no tensor are taken from here; the names must be
        the same, up to separators and common prefixes, and get the spelling in `like`.
      metadata: added to that of `like`; only safetensors keeps it.
      overwrite: replace what is there.
      inputs: files that `tensors` read from, which are never written over; `like` is known to be one.

    Raises:
      FileError: the file exists, is an input, cannot be written, or cannot hold these tensors. Nothing is left behind.
    """
    path = Path(path)
    if path.name.endswith(safetensors.INDEX):
        path = path.parent
    kind = _format_to_write(path, like)
    if metadata and kind != "safetensors":
        raise FileError(f"{path} must be safetensors to keep metadata, found {kind}; leave the metadata out")
    values = tensors if isinstance(tensors, dict | Weights) else {}
    if like is None:
        sources = {name: name for name in tensors}
    else:
        sources = match(path, tensors, like, str(like.path), like.ties)
        inputs = [*inputs, like.path]
    lazy = [array for known in (values, like or {}) for array in known.values() if isinstance(array, LazyArray)]
    read = {Path(file) for file in inputs} | {array.file for array in lazy if array.file}
    check_output(path, like=like, inputs=read, overwrite=overwrite)
    shown = {name: values[source] for name, source in sources.items()} if values else like or {}
    known = {name: _known(path, name, shown[name], like) for name in sources if shown}
    _check_space(path, known)
    writing = Writing(
        path,
        list(sources),
        lambda name: _pull(path, name, tensors[sources[name]], like),
        known,
        like.layout if like is not None and like.format == kind else None,
        {**(like.metadata if like is not None else {}), **(metadata or {})},
    )
    with whole(path, new=not overwrite) as temporary:
        FORMATS[kind].write(temporary, writing)


def _pull(path: Path, name: str, value: Any, like: Weights | None) -> np.ndarray:
    """The numbers as they lie on disk: in the type of `like`, in the machine's byte order, rows first."""
    _dtype(path, name, value)
    array = np.asarray(value)
    if like is not None and array.dtype != like[name].dtype:
        array = _cast(path, name, array, like[name].dtype)
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)


def _known(path: Path, name: str, value: Any, like: Weights | None) -> jax.ShapeDtypeStruct:
    dtype = _dtype(path, name, value)
    return jax.ShapeDtypeStruct(np.shape(value), dtype if like is None else like[name].dtype)


def _dtype(path: Path, name: str, value: Any) -> np.dtype:
    dtype = getattr(value, "dtype", None) or np.asarray(value).dtype
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        raise FileError(f"{path}: {name} is a random key ({dtype}), write jax.random.key_data of it instead")
    if dtype.hasobject:
        raise FileError(f"{path}: {name} must be of a type of numbers, found {dtype}; convert it")
    return dtype


def _cast(path: Path, name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers lose precision at most."""
    fits = np.can_cast(array.dtype, dtype, "same_kind")
    if fits:
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype)
            if jnp.issubdtype(dtype, np.integer):
                fits = bool((cast.astype(array.dtype) == array).all())
            else:
                fits = bool((np.isfinite(cast) >= np.isfinite(array)).all())
    if not fits:
        raise FileError(
            f"{path}: {name} must fit into {dtype}, as it is stored, found {array.dtype} that does not; convert it"
        )
    return cast


def _format_to_write(path: Path, like: Weights | None) -> str:
    kind = SUFFIXES.get(path.suffix.lower(), like.format if like is not None and like.path.is_dir() else None)
    if kind is None:
        raise FileError(f"{path} must end in one of {LISTED}, or be a folder written like one; rename it")
    return kind


def check_output(
    path: Path, *, like: Weights | None = None, inputs: Iterable[Path] = (), overwrite: bool = False
) -> None:
    """Raise `FileError` unless `write_weights` may write there, which can be known before there is anything to write.

    Args:
      path, like, inputs, overwrite: as for `write_weights`.
    """
    kind = _format_to_write(path, like)
    if path.suffix.lower() == ".keras" and (like is None or like.path.suffix.lower() != ".keras"):
        raise FileError(f"{path} needs the configuration of a .keras file to be written like; write .weights.h5")
    if not path.parent.is_dir():
        raise FileError(f"{path} must lie in a folder that exists; make {path.parent}")
    for file in inputs:
        here, there = path.resolve(), file.resolve()
        same = file.exists() and path.exists() and path.samefile(file)
        # to a folder of weights a file more would belong
        if same or here == there or here in there.parents or there in here.parents:
            raise FileError(
                f"{path} must not be an input, which is never written over, or lie in one; choose another name"
            )
    if os.path.lexists(path):
        beside = like.layout.beside if kind == "safetensors" and like is not None and like.format == kind else ()
        _check_replaceable(path, kind, overwrite, {file.name for file in beside})


def _check_replaceable(path: Path, kind: str, overwrite: bool, renewed: set[str]) -> None:
    """What is there may go, and is of the kind that will be there: weights, and files that are `renewed` with them."""
    if not overwrite:
        raise FileError(f"{path} exists; choose another name, or say that it may be written over (overwrite=True)")
    folder = kind == "orbax" or path.suffix.lower() not in SUFFIXES
    if folder != path.is_dir():
        raise FileError(f"{path} must be a {'folder' if folder else 'file'} to be written over; choose another name")
    if folder and not orbax.is_checkpoint(path):
        whole = (".safetensors", safetensors.INDEX)
        other = [file.name for file in path.iterdir() if not (file.name.endswith(whole) or file.name in renewed)]
        if other:
            raise FileError(f"{path} must hold nothing but weights to be written over, found {few(other)}; move them")


def _check_space(path: Path, known: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    needed = sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in known.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FileError(f"{path} needs {needed:,} bytes, but {free:,} are free; choose another folder")
