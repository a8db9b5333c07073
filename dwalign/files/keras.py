"""Keras: `.weights.h5`, and `.keras`, a zip of one beside the model's configuration; names are paths inside the HDF5.

HDF5 has no bfloat16: Keras stores the bytes, and the type in an attribute. What is no array, and
what an optimizer keeps, is no weight: it is copied from the file that is written alike. Checksums
of what is written are attributes as well: HDF5's own need chunks, and with these HDF5 crashes when a disk is full.
Places are those of classes, `layers/dense_1`; what a layer is called is an attribute, and metadata here.
"""

import contextlib
import copy
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from dwalign.extras import load
from dwalign.files.checksums import SUM, checksum
from dwalign.files.errors import FileError, reading
from dwalign.files.tensors import MOST_PACKED, LazyArray, Weights, Writing, is_foreign
from dwalign.files.zips import CHUNK

MEMBER = "model.weights.h5"
CONFIG = "config.json"
OPTIMIZER = ("optimizer/", "optimizer_weights/")
WHAT = "a whole file of Keras"
VARIABLES = "/vars"


def open(path: Path) -> Weights:
    h5py = load("h5py")
    arrays: dict[str, LazyArray] = {}
    called: dict[str, str] = {}

    def visit(name: str, item: Any) -> None:
        if name.endswith(VARIABLES) and isinstance(item.attrs.get("name"), str):
            called[name.removesuffix(VARIABLES)] = item.attrs["name"]
        if not isinstance(item, h5py.Dataset) or name.startswith(OPTIMIZER):
            return
        if item.dtype.kind in "biufcV" and item.shape is not None:
            dtype = _type(path, name, item)
            if item.external or item.is_virtual or item.nbytes > MOST_PACKED * item.id.get_storage_size() + 64:
                raise FileError(
                    f"{path}: {name} must have its {item.nbytes} bytes in this file; write it again with Keras"
                )
            read = partial(_read, path, name, dtype)
            arrays[name] = LazyArray(item.shape, dtype, read, name, path, item.attrs.get(SUM))

    with reading(path, WHAT):
        _check_archive(path)
        with _h5(path) as content, h5py.File(content, "r") as file:
            file.visititems(visit)
    return Weights(path, "keras", arrays, called, layout=path)


def read_config(path: Path) -> Any:
    """What a `.keras` says of the model, as `model.to_json()` does; None of a file that holds weights alone."""
    if path.suffix.lower() != ".keras":
        return None
    with reading(path, WHAT), zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(CONFIG))


def write(file: Path, writing: Writing) -> None:
    h5py = load("h5py")
    like: Path | None = writing.layout
    archived = writing.path.suffix.lower() == ".keras"
    place: Any = partial(tempfile.TemporaryFile, dir=file.parent) if archived else partial(file.open, "w+b")
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(place())
        if like is not None:
            shutil.copyfileobj(stack.enter_context(_h5(like)), content)
        with h5py.File(content, "w" if like is None else "r+") as weights:
            for name in writing.names:
                _put(weights, name, writing.pull(name))
        if archived and like is not None:
            content.seek(0)
            _archive(file, like, content)


def _put(weights: Any, name: str, array: np.ndarray) -> None:
    stored = array.view(f"V{array.dtype.itemsize}") if is_foreign(array.dtype) else array
    attributes: dict[str, Any] = {"dtype": array.dtype.name} if is_foreign(array.dtype) else {}
    there = weights.get(name)
    if there is not None and there.shape == array.shape:
        there[...] = stored
    elif there is not None:
        attributes, options = {**there.attrs, **attributes}, {"compression": there.compression}
        del weights[name]
        there = weights.create_dataset(name, data=stored, **options)
    else:
        there = weights.create_dataset(name, data=stored)
    for key, value in {**attributes, SUM: checksum(name, array)}.items():
        there.attrs[key] = value


def _archive(file: Path, like: Path, content: IO[bytes]) -> None:
    with zipfile.ZipFile(like) as old, zipfile.ZipFile(file, "w") as new:
        for info in old.infolist():
            # the one that is written is renewed
            with new.open(copy.copy(info), "w", force_zip64=True) as to:
                if info.filename == MEMBER:
                    shutil.copyfileobj(content, to)
                else:
                    with old.open(info) as kept:
                        shutil.copyfileobj(kept, to)


def _check_archive(path: Path) -> None:
    """That the weights in an archive have its checksum, which nobody looks at who jumps to and fro in them."""
    if path.suffix.lower() == ".keras":
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as whole:
            while whole.read(CHUNK):
                pass


@contextlib.contextmanager
def _h5(path: Path) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        if path.suffix.lower() == ".keras":
            archive = stack.enter_context(zipfile.ZipFile(path))
            yield stack.enter_context(archive.open(MEMBER))
        else:
            yield stack.enter_context(path.open("rb"))


def _type(path: Path, name: str, item: Any) -> np.dtype:
    if item.dtype.kind != "V":
        return item.dtype.newbyteorder("=")
    kind = getattr(ml_dtypes, str(item.attrs.get("dtype", "bfloat16" if item.dtype == "V2" else "")), None)
    if not isinstance(kind, type) or np.dtype(kind).itemsize != item.dtype.itemsize:
        raise FileError(f"{path}: {name} must be numbers of a known type, found {item.dtype}; save it as float32")
    return np.dtype(kind)


def _read(path: Path, name: str, dtype: np.dtype) -> np.ndarray:
    with _h5(path) as content, load("h5py").File(content, "r") as file:
        array = file[name][()]
    return np.asarray(array).view(dtype) if is_foreign(dtype) else np.asarray(array, dtype)
