"""Weights on disk in every format: opened tensor by tensor, written tensor by tensor."""

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files import keras, msgpack, npz, orbax, safetensors, torch
from dwalign.files.atomic import whole
from dwalign.files.errors import FileError, said
from dwalign.files.names import match
from dwalign.files.tensors import LazyArray, Weights, Writing

FORMATS = {"safetensors": safetensors, "npz": npz, "msgpack": msgpack, "orbax": orbax, "keras": keras, "torch": torch}
SUFFIXES = {
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".msgpack": "msgpack",
    ".orbax": "orbax",
    **dict.fromkeys((".keras", ".h5", ".hdf5"), "keras"),
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "torch"),
}
LISTED = ", ".join(SUFFIXES)


def open_weights(path: str | Path) -> Weights:
    """Open a file or folder of weights; tensors are read when NumPy asks for them.

    Args:
      path: safetensors (a file, a folder of shards or its index), `.npz`, Flax's `.msgpack`, a folder of Orbax, Keras's
        `.weights.h5` or `.keras`, torch's `.pt`, `.pth`, `.bin`, `.ckpt`. Nothing in it is executed.

    Returns:
      a mapping of names to tensors with `shape` and `dtype`, in the order of the file.

    Raises:
      FileError: missing, damaged, or of another format than its name says.
      ImportError: the library of this format is not installed.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> write_weights(file, {"dense/kernel": np.eye(2, dtype=np.float32)})
    >>> weights = open_weights(file)
    >>> weights["dense/kernel"].shape, np.asarray(weights["dense/kernel"]).sum()
    ((2, 2), np.float32(2.0))
    """
    path = Path(path)
    try:
        if path.name.endswith(safetensors.INDEX):
            found = "safetensors"
        else:
            found = _in_folder(path) if path.is_dir() else _in_file(path)
    except OSError as error:
        raise FileError(f"{path} must be a file or folder of weights that can be read ({said(error)})") from error
    try:
        return FORMATS[found].open(path)
    except OSError as error:
        raise FileError(f"{path} must be weights that can be read ({said(error)}); fetch it again") from error


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
    _check_free(path, {Path(file) for file in inputs} | {array.file for array in lazy if array.file}, overwrite)
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
    try:
        with whole(path) as temporary:
            FORMATS[kind].write(temporary, writing)
    except OSError as error:
        raise FileError(f"{path} could not be written ({error}); free space or choose another folder") from error


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
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        kind = SUFFIXES[suffix]
    elif like is not None and like.path.is_dir():
        return like.format
    else:
        raise FileError(f"{path} must end in one of {LISTED}, or be a folder written like one; rename it")
    if kind == "safetensors" and like is not None and like.path.is_dir() and like.format == kind and path.is_dir():
        raise FileError(f"{path} must be a file by its name, found a folder; name a new file or folder")
    return kind


def _check_free(path: Path, inputs: set[Path], overwrite: bool) -> None:
    """The output has a folder, takes no input's place, and no other's unless it may."""
    if not path.parent.is_dir():
        raise FileError(f"{path} must lie in a folder that exists; make {path.parent}")
    if not os.path.lexists(path):
        return
    for file in inputs:
        here, there = path.resolve(), file.resolve()
        if here == there or here in there.parents or (file.exists() and path.exists() and path.samefile(file)):
            raise FileError(f"{path} must not be an input, which is never written over; choose another name")
    if not overwrite:
        raise FileError(f"{path} exists; choose another name, or say that it may be written over (overwrite=True)")


def _check_space(path: Path, known: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    needed = sum(tensor.size * np.dtype(tensor.dtype).itemsize for tensor in known.values())
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise FileError(f"{path} needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free; choose another folder")


def _in_folder(path: Path) -> str:
    if any(path.glob("*.safetensors")) or any(path.glob(f"*{safetensors.INDEX}")):
        return "safetensors"
    if orbax.is_checkpoint(path):
        return "orbax"
    inner = sorted(
        str(folder.relative_to(path))
        for deep in ("*", "*/*")
        for folder in path.glob(deep)
        if orbax.is_checkpoint(folder)
    )
    if inner:
        raise FileError(f"{path} must be one Orbax checkpoint, but holds {', '.join(inner[:3])}; name one of them")
    raise FileError(f"{path} must be a folder of safetensors or Orbax, found neither; name a file ({LISTED})")


def _in_file(path: Path) -> str:
    if not path.exists():
        raise FileError(f"{path} must be a file or folder of weights, found nothing there; check the name")
    wanted = SUFFIXES.get(path.suffix.lower())
    if wanted is None or wanted == "orbax":
        raise FileError(f"{path} must end in one of {LISTED}; rename it to the format it has")
    if not path.is_file():
        raise FileError(f"{path} must be a file of weights, found something else; check the name")
    found = _looks_like(path)
    if found is not None and found != wanted:
        raise FileError(f"{path} must be {wanted} by its name, but looks like {found}; rename or fetch it again")
    return wanted


MAGIC: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("an empty file", lambda head: not head),
    ("a Git LFS pointer", lambda head: head.startswith(b"version https://git-lfs")),
    ("a web page", lambda head: head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))),
    ("keras", lambda head: head.startswith(b"\x89HDF\r\n")),
    ("torch", lambda head: head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and head[2:3] in b"\x8a\x95}c"),
    ("safetensors", lambda head: head[8:9] == b"{" and head[5:8] == b"\0\0\0"),
    ("a NumPy array (.npy)", lambda head: head.startswith(b"\x93NUMPY")),
    ("gzip", lambda head: head.startswith(b"\x1f\x8b")),
    ("msgpack", lambda head: head[0] in (*range(0x81, 0x90), 0xDE, 0xDF) and head[1] in (*range(0xA0, 0xC0), 0xD9)),
)


def _looks_like(path: Path) -> str | None:
    """The format that the first bytes tell, None where they do not."""
    with path.open("rb") as handle:
        head = handle.read(64)
    if not head.startswith(b"PK\3\4"):
        return next((name for name, told in MAGIC if told(head)), None)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except zipfile.BadZipFile:
        return None
    if any(member.endswith("data.pkl") for member in members):
        return "torch"
    if "model.weights.h5" in members:
        return "keras"
    return "npz" if members and all(member.endswith(".npy") for member in members) else "a zip of other files"
