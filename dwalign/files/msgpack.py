"""Flax's msgpack: nested maps whose leaves are arrays, as `flax.serialization.to_bytes` writes them.

Flax reads a file as a whole. Here maps are walked and arrays are skipped, so that one can be read alone; Flax decodes
and encodes each.
"""

import math
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  its types get names in NumPy
import numpy as np

from dwalign.files.errors import FileError, reading
from dwalign.files.names import nest
from dwalign.files.tensors import LazyArray, Weights, Writing

ONE = b"\x81\xa0"  # a map of one value under the empty name, which is how Flax is given a leaf
EXTENSIONS = {**dict.fromkeys(range(0xD4, 0xD9), 2), 0xC7: 3, 0xC8: 4, 0xC9: 6}  # first byte: bytes before the content
BINARY = {0xC4: 2, 0xC5: 3, 0xC6: 5}
ARRAY, SCALAR = 1, 3
CHUNKED = "__msgpack_chunked_array__"


class Slot(NamedTuple):
    """Where an array lies: its place in the file, whether Flax had it as a NumPy scalar."""

    shape: tuple[int, ...]
    dtype: np.dtype
    begin: int
    end: int
    scalar: bool = False


def open(path: Path) -> Weights:
    from msgpack import Unpacker

    size = path.stat().st_size
    with reading(path, "a whole msgpack file of Flax"), path.open("rb") as handle:
        unpacker = Unpacker(handle, max_buffer_size=size + 1, strict_map_key=False)
        tree = _node(unpacker, handle.fileno(), path)
        if not isinstance(tree, dict) or unpacker.tell() != size:
            raise FileError(
                f"{path} must be one map of arrays from its first byte to its last; write it again with Flax"
            )
        arrays: dict[str, LazyArray] = {}
        layout = _named(path, tree, (), arrays)
    return Weights(path, "msgpack", arrays, layout=layout)


def write(file: Path, writing: Writing) -> None:
    from flax.serialization import msgpack_serialize
    from msgpack import Packer, packb

    def leaf(handle, name: str, scalar: bool) -> None:
        array = writing.pull(name)
        encoded = msgpack_serialize({"": array[()] if scalar else array})
        handle.write(memoryview(encoded)[len(ONE) :])

    def node(handle, tree: Any) -> None:
        if isinstance(tree, dict):
            handle.write(Packer().pack_map_header(len(tree)))
            for key, value in tree.items():
                handle.write(packb(key))
                node(handle, value)
        elif isinstance(tree, bytes):
            handle.write(tree)
        else:
            leaf(handle, *tree)

    tree = writing.layout or nest(writing.path, {name: (name, False) for name in writing.names})
    with file.open("wb") as handle:
        node(handle, tree)


def _node(unpacker, fd: int, path: Path) -> Any:
    """A map as a dictionary, an array as a Slot, anything else as its bytes."""
    begin = unpacker.tell()
    head = os.pread(fd, 1, begin)[0]
    if head >> 4 == 8 or head in (0xDE, 0xDF):
        tree = {}
        for _ in range(unpacker.read_map_header()):
            key = unpacker.unpack()
            if key in tree:
                raise FileError(f"{path} must name each array once, found {key} twice; write it again")
            tree[key] = _node(unpacker, fd, path)
        return _joined(fd, tree, begin, unpacker.tell()) if CHUNKED in tree else tree
    unpacker.skip()
    end = unpacker.tell()
    if head in EXTENSIONS:
        code = os.pread(fd, EXTENSIONS[head], begin)[-1]
        if code in (ARRAY, SCALAR):
            shape, dtype = _described(fd, begin + EXTENSIONS[head], end, path)
            return Slot(shape, dtype, begin, end, code == SCALAR)
    return os.pread(fd, end - begin, begin)


def _described(fd: int, begin: int, end: int, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, which its content (shape, type, numbers) begins with."""
    from msgpack import Unpacker

    unpacker = Unpacker()
    unpacker.feed(os.pread(fd, min(end - begin, 4096), begin))
    if unpacker.read_array_header() != 3:
        raise FileError(f"{path} must hold arrays as (shape, type, numbers); write it again with Flax")
    shape, dtype = tuple(unpacker.unpack()), np.dtype(unpacker.unpack())
    numbers = begin + unpacker.tell()
    found = end - numbers - BINARY[os.pread(fd, 1, numbers)[0]]
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != found:
        raise FileError(f"{path}: an array of shape {shape} and type {dtype} cannot be {found} bytes; fetch it again")
    return shape, dtype


def _joined(fd: int, tree: dict, begin: int, end: int) -> Slot:
    """An array that Flax has cut since it is larger than a gigabyte."""
    from msgpack import unpackb

    shape = tuple(unpackb(tree["shape"][str(k)]) for k in range(len(tree["shape"])))
    chunks = list(tree["chunks"].values())
    if sum(math.prod(chunk.shape) for chunk in chunks) != math.prod(shape):
        raise ValueError(f"the parts of an array of shape {shape} do not add up")
    return Slot(shape, chunks[0].dtype, begin, end)


def _named(path: Path, tree: dict, outer: tuple[str, ...], arrays: dict[str, LazyArray]) -> dict:
    """The tree with names instead of arrays, which are put into `arrays`."""
    layout: dict[Any, Any] = {}
    for key, value in tree.items():
        name = "/".join((*outer, str(key)))
        if isinstance(value, dict):
            layout[key] = _named(path, value, (*outer, str(key)), arrays)
        elif isinstance(value, Slot):
            if name in arrays:
                raise FileError(f"{path} must give each array a name of its own, found {name} twice; rename one")
            read = partial(_read, path, value.begin, value.end)
            arrays[name] = LazyArray(value.shape, value.dtype, read, name, path)
            layout[key] = (name, value.scalar)
        else:
            layout[key] = value
    return layout


def _read(path: Path, begin: int, end: int) -> np.ndarray:
    from flax.serialization import msgpack_restore

    with path.open("rb") as handle:
        handle.seek(begin)
        return np.asarray(msgpack_restore(ONE + handle.read(end - begin))[""])
