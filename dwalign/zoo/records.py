"""Networks on disk, more than memory holds: shards of ArrayRecord, of which any network is read alone.

A folder of `networks-00012.array_record`, a record a network, beside `networks.json`, which says what a record holds.
Such a folder is a data source of Grain: `grain.MapDataset.source(open_networks(folder))`.
"""

import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign import extras
from dwalign.bounds import Count, bounded
from dwalign.files import FileError, reading, said, unbind
from dwalign.files.atomic import whole
from dwalign.files.described import check_described, check_sizes, describe, read_described
from dwalign.files.names import nest

PyTree = Any
ABOUT = "networks.json"
# one network a group: what is not asked for is not read
OPTIONS = "group_size:1"


class Networks(Sequence):
    """Networks of one architecture in a folder, each read when it is asked for.

    `networks[7]` is the parameters of one, NumPy arrays. Threads may share it, and it can be sent to other processes.

    Attributes:
      folder: where they lie.
      shards: the numbers of networks in each file.
      like: a tree whose structure all have; nested dictionaries by default.
    """

    def __init__(self, folder: Path, shards: Sequence[int], leaves: Sequence[Any], like: PyTree = None):
        self.folder, self.shards, self.like, self._leaves = folder, tuple(shards), like, tuple(leaves)
        self._begins = np.cumsum([0, *self.shards])
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._begins[-1])

    def __getitem__(self, index: Any) -> PyTree:
        """The parameters of one network, NumPy arrays."""
        number = range(len(self))[index]
        if not isinstance(number, int):
            raise TypeError(f"{self.folder}: networks are asked for one by one, got {index!r}")
        shard = int(np.searchsorted(self._begins, number, "right")) - 1
        file, row = self.folder / _name(shard), number - int(self._begins[shard])
        with reading(file, "a whole ArrayRecord file"):
            with self._lock:  # readers of ArrayRecord are not made for threads
                (record,) = self._reader(shard).read([row])
            return self._tree(self._arrays(file, row, record))

    def _reader(self, shard: int) -> Any:
        if shard not in self._readers:
            reader = extras.load("array_record.python.array_record_module").ArrayRecordReader
            opened = reader(str(self.folder / _name(shard)))
            if opened.num_records() != self.shards[shard]:
                raise FileError(
                    f"{self.folder / _name(shard)} must hold {self.shards[shard]} networks, as {ABOUT} says, found "
                    f"{opened.num_records()}; fetch or make it again"
                )
            self._readers[shard] = opened
        return self._readers[shard]

    def _arrays(self, file: Path, row: int, record: bytes) -> dict[str, np.ndarray]:
        *_, size = ends = np.cumsum(
            [0, *(np.prod(shape, dtype=int) * dtype.itemsize for _, shape, dtype in self._leaves)]
        )
        if len(record) != size + 4 or zlib.crc32(record[:size]) != int.from_bytes(record[size:], "little"):
            raise FileError(
                f"{file}: network {row} must be the {size} bytes that were written, but its length or checksum is "
                "another; fetch or make the file again"
            )
        return {
            name: np.frombuffer(record, dtype, int(np.prod(shape)), int(begin)).reshape(shape)
            for (name, shape, dtype), begin in zip(self._leaves, ends, strict=False)
        }

    def _tree(self, arrays: dict[str, np.ndarray]) -> PyTree:
        if self.like is None:
            return nest(self.folder, arrays)
        return jax.tree.unflatten(jax.tree.structure(self.like), [arrays[name] for name in unbind(self.like)])

    def __getstate__(self):
        return {"folder": self.folder, "shards": self.shards, "leaves": self._leaves, "like": self.like}

    def __setstate__(self, state):
        self.__init__(**state)

    def __repr__(self):
        return f"{len(self)} networks in {self.folder}"


@bounded
def save_networks(
    folder: str | Path,
    make: Callable[[int], PyTree],
    count: Count,
    *,
    shard: Count = 1000,
    turn: tuple[int, int] = (0, 1),
    about: Mapping[str, Any] | None = None,
) -> Networks:
    """Write networks shard by shard; the shards that are there are kept, so that an interrupted call goes on.

    Args:
      folder: made where it does not exist.
      make: from the number of a shard to its networks, stacked along a leading axis: `shard` of them, or in the last
        what is left. It must give the same networks whenever it is asked.
      count: of all networks.
      shard: networks a file; all of one are in memory at once.
      turn: `(k, n)` writes every n-th shard from the k-th on; each of n processes takes another k and writes the same
        files as one process would.
      about: JSON values that say what the networks are; a folder is only gone on with where it says the same.

    Raises:
      FileError: the folder cannot be written, or holds networks of another count, shard or shape.
    """
    folder = Path(folder)
    if not 0 <= turn[0] < turn[1]:
        raise ValueError(f"save_networks: turn must be (k, n) with 0 <= k < n, got {turn}")
    sizes = [min(shard, count - begin) for begin in range(0, count, shard)]
    missing = [k for k in range(turn[0], len(sizes), turn[1]) if not (folder / _name(k)).exists()]
    known = {"shards": sizes, **(about or {})}
    check_described(folder / ABOUT, known)
    for k in extras.progress(missing, desc="writing networks", unit="shard") if missing else ():
        arrays = {name: _stacked(sizes[k], name, leaf) for name, leaf in sorted(unbind(make(k)).items())}
        leaves = [[name, array.dtype.name, list(array.shape[1:])] for name, array in arrays.items()]
        describe(folder / ABOUT, known | {"leaves": leaves})
        records = (b"".join(np.ascontiguousarray(a[row]).tobytes() for a in arrays.values()) for row in range(sizes[k]))
        with whole(folder / _name(k)) as temporary:
            _write(temporary, records)
    return open_networks(folder)


def open_networks(folder: str | Path, like: PyTree = None) -> Networks:
    """The networks in a folder; nothing but their description is read.

    Args:
      folder: that `save_networks` wrote. Shards that other processes still write are missed when they are asked for.
      like: arrays or `jax.ShapeDtypeStruct`s in the structure that all get, such as `network.params`; nested
        dictionaries by default.

    Raises:
      FileError: it holds no networks, or such of other names, shapes or types than `like`.
      ValueError: `like` is no tree of arrays.
    """
    folder = Path(folder)
    if other := [type(leaf).__name__ for leaf in jax.tree.leaves(like) if not hasattr(leaf, "dtype")]:
        raise ValueError(f"open_networks: like must be a tree of arrays, such as network.params, found {other[0]}")
    about = read_described(folder / ABOUT)
    if about is None:
        raise FileError(f"{folder} must hold networks, found no {ABOUT}; save_networks and zoo.make_networks write it")
    with reading(folder / ABOUT, "the description of networks"):
        leaves = [(name, tuple(shape), np.dtype(jnp.dtype(dtype))) for name, dtype, shape in about["leaves"]]
        networks = Networks(folder, check_sizes(folder / ABOUT, about["shards"]), leaves, like)
    if like is not None:
        wanted = {name: (tuple(jnp.shape(leaf)), np.dtype(leaf.dtype)) for name, leaf in unbind(like).items()}
        found = {name: (shape, dtype) for name, shape, dtype in leaves}
        if wrong := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
            raise FileError(
                f"{folder}: the networks must have {wrong[0]} as {wanted.get(wrong[0], 'nothing')}, found "
                f"{found.get(wrong[0], 'nothing')}; they are of another architecture"
            )
    return networks


def _write(file: Path, records: Iterable[bytes]) -> None:
    writer = extras.load("array_record.python.array_record_module").ArrayRecordWriter(str(file), OPTIONS)
    try:
        for record in records:
            writer.write(record + zlib.crc32(record).to_bytes(4, "little"))
        writer.close()
    except RuntimeError as error:  # ArrayRecord's, for disks that are full
        raise OSError(said(error)) from error


def _name(shard: int) -> str:
    return f"networks-{shard:05d}.array_record"


def _stacked(count: int, name: str, leaf: Any) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        raise ValueError(f"save_networks: {name} is a random key ({leaf.dtype}); save jax.random.key_data of it")
    array = np.asarray(leaf)
    if array.ndim < 1 or len(array) != count:
        raise ValueError(f"save_networks: the shard must hold {count} networks, found {name} of shape {array.shape}")
    return array
