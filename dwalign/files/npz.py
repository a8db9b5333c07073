"""NumPy's .npz: a zip of arrays.

NumPy writes types it lacks as bytes without a name. Here they are records with one field named by the type, which
`array.view(ml_dtypes.bfloat16)` reads as well.
"""

import math
import zipfile
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np

from dwalign.files.errors import FileError, reading
from dwalign.files.tensors import MOST_PACKED, LazyArray, Weights, Writing, is_foreign
from dwalign.files.zips import infos

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def open(path: Path) -> Weights:
    with reading(path, "a whole .npz file"), zipfile.ZipFile(path) as archive:
        arrays: dict[str, LazyArray] = {}
        compressed = {}
        for info in infos(archive):
            name = info.filename.removesuffix(".npy")
            if name in arrays or name == info.filename:
                fault = "twice" if name in arrays else "which is no array"
                raise FileError(
                    f"{path} must hold arrays of different names, found {info.filename} {fault}; write it again"
                )
            stored, shape = _stored(archive, info, path, name)
            dtype = _named(stored)
            if dtype is None:
                raise FileError(
                    f"{path}: {name} must be numbers of a known type, found {stored}; save it as float32, or by dwalign"
                )
            arrays[name] = LazyArray(shape, dtype, partial(_read, path, info.filename, dtype), name, path)
            compressed[name] = info.compress_type
        return Weights(path, "npz", arrays, layout=compressed)


def write(file: Path, writing: Writing) -> None:
    kinds = writing.layout or {}

    def append(archive: zipfile.ZipFile, name: str) -> None:
        array = writing.pull(name)
        if is_foreign(array.dtype):
            array = array.view([(array.dtype.name, f"V{array.dtype.itemsize}")])
        info = zipfile.ZipInfo(f"{name}.npy")
        info.compress_type = kinds.get(name, zipfile.ZIP_STORED)
        with archive.open(info, "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array, allow_pickle=False)

    with zipfile.ZipFile(file, "w") as archive:
        for name in writing.names:
            append(archive, name)


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape that the header of an array says, when so many bytes are there."""
    if info.file_size > MOST_PACKED * info.compress_size + 64:
        raise FileError(
            f"{path}: {name} cannot be {info.file_size} bytes, packed in {info.compress_size}; fetch it again"
        )
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise FileError(f"{path}: {name} must be numbers, found an array of format {version}; save it as numbers")
        shape, _, dtype = HEADERS[version](member)
        if dtype.hasobject:
            raise FileError(
                f"{path}: {name} must be numbers, found Python objects; they are never loaded, save numbers"
            )
        if math.prod(shape) * dtype.itemsize != info.file_size - member.tell():
            raise FileError(
                f"{path}: {name} of shape {shape} and type {dtype} cannot be {info.file_size - member.tell()} bytes; "
                "fetch it again"
            )
    return dtype, shape


def _named(stored: np.dtype) -> np.dtype | None:
    """The type of the numbers, None if it cannot be told."""
    if stored.kind != "V":
        return stored.newbyteorder("=") if stored.kind in "biufc" else None
    if stored == np.dtype("V2"):  # only bfloat16 has two bytes and no name in NumPy
        return np.dtype(ml_dtypes.bfloat16)
    kind = getattr(ml_dtypes, stored.names[0], None) if stored.names and len(stored.names) == 1 else None
    return np.dtype(kind) if isinstance(kind, type) and np.dtype(kind).itemsize == stored.itemsize else None


def _read(path: Path, member: str, dtype: np.dtype) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(member) as handle:
        array = np.lib.format.read_array(handle, allow_pickle=False)
    return array.view(dtype) if array.dtype.kind == "V" else array.astype(dtype, copy=False)
