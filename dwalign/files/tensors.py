"""Tensors on disk: shapes and types are known, numbers are read when asked for."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwalign.files.checksums import checksum
from dwalign.files.errors import FileError, reading


@dataclasses.dataclass(frozen=True, eq=False)
class LazyArray:
    """A tensor that is read whenever NumPy asks for it, and not kept.

    `np.asarray(lazy)` reads it; `shape` and `dtype` cost nothing. Types that NumPy lacks are those of ml_dtypes.

    Args:
      shape, dtype: of the tensor.
      read: gives it; a merge may give any function here, so that a tensor is computed when it is written.
      name, file: where it lies, for errors; a file that has changed since is refused.
      checksum: of what was written, where the file has one.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = dataclasses.field(repr=False)
    name: str = ""
    file: Path | None = None
    checksum: int | None = dataclasses.field(repr=False, default=None)
    _stamp: tuple[int, ...] = dataclasses.field(init=False, repr=False, default=())

    def __post_init__(self):
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if self.file is not None:
            object.__setattr__(self, "_stamp", _stamp(self.file))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(f"{self.name} is not in memory: reading it makes a copy, leave out copy=False")
        array = self.read() if self.file is None else self._read_file(self.file)
        return array if dtype is None else array.astype(dtype, copy=False)

    def _read_file(self, file: Path) -> np.ndarray:
        with reading(file, f"a file that holds {self.name}"):
            if _stamp(file) != self._stamp:
                raise FileError(f"{file} must stay as it is while it is used, but has changed; open it again")
            array = self.read()
        if array.shape != self.shape:
            raise FileError(f"{file}: {self.name} must have shape {self.shape}, found {array.shape}; fetch it again")
        if self.checksum is not None and checksum(self.name, array) != self.checksum:
            raise FileError(
                f"{file}: {self.name} must be as it was written, but its checksum is another: the file is damaged, or "
                "was changed by what knows no checksums; fetch or make it again"
            )
        return array


def put_off(function: Callable[..., Any], *arrays: Any) -> Any:
    """`function(*arrays)`, of the shape and type of the first; of lazy arrays it is computed when it is read.

    >>> lazy = LazyArray((2,), np.float32, lambda: np.float32([1, 2]))
    >>> put_off(lambda x: 2 * x, lazy)
    LazyArray(shape=(2,), dtype=dtype('float32'), name='', file=None)
    >>> np.asarray(put_off(lambda x: 2 * x, lazy)).tolist(), put_off(lambda x: 2 * x, 3)
    ([2.0, 4.0], 6)
    """
    if not all(isinstance(array, LazyArray) for array in arrays):
        return function(*arrays)
    first = arrays[0]
    return LazyArray(first.shape, first.dtype, lambda: function(*map(np.asarray, arrays)), first.name)


def read_leaf(leaf: Any) -> Any:
    """The array of one that lies in a file; all else as it is."""
    return np.asarray(leaf) if isinstance(leaf, LazyArray) else leaf


MOST_PACKED = 1100  # deflate makes nothing so many times smaller


def is_foreign(dtype: np.dtype) -> bool:
    """Whether it is a type of ml_dtypes, which files of NumPy, HDF5 and torch's NumPy bridge do not know."""
    return dtype.isbuiltin == 2


def _stamp(file: Path) -> tuple[int, ...]:
    stat = file.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Weights(Mapping[str, LazyArray]):
    """The tensors of a file by their names, in the order of the file.

    Args:
      path: of the file or folder.
      format: "safetensors", "npz", "msgpack", "orbax", "keras" or "torch".
      arrays: the tensors.
      metadata: what the file says beside them.
      ties: for each name that is another name's tensor, that name.
      layout: what a writer of this format needs to write alike; it means nothing to others.
    """

    path: Path
    format: str
    arrays: dict[str, LazyArray]
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    ties: dict[str, str] = dataclasses.field(default_factory=dict)
    layout: Any = None

    def __getitem__(self, name: str) -> LazyArray:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return f"Weights({str(self.path)!r}, {self.format}, {len(self)} tensors)"


class Writing(NamedTuple):
    """What a format is asked to write.

    `pull(name)` gives a tensor, contiguous and of the type it is stored in. It is called once for each of `names`, in
    any order, and what it gave is dropped before the next. `known` has the shapes and types that are known before. The
    file is made under another name; `path` is the one it will have.
    """

    path: Path
    names: list[str]
    pull: Callable[[str], np.ndarray]
    known: Mapping[str, Any]
    layout: Any
    metadata: dict[str, str]
