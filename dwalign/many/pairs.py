"""Any number of pairs aligned: in batches over the devices of a process, in parts over processes, onto disk."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dwalign import extras
from dwalign.assignment import refuse_unsolved
from dwalign.bounds import Count, bounded
from dwalign.deepalign import as_method
from dwalign.files.described import describe
from dwalign.many.alignments import ABOUT, Alignments, open_alignments, write_part
from dwalign.many.features import Features, stacked
from dwalign.matching import Method
from dwalign.memory import enough_memory
from dwalign.processes import apart, over_devices, wait_for_all
from dwalign.program import CLASSIFICATION, Data, Network, Task, as_data, compiled, spec_of
from dwalign.symmetry import PermutationSpec, SpecError, check_finite, distance, key_of_pair, permute

PyTree = Any


@bounded
def align_many(
    network: Network | PermutationSpec,
    networks: Sequence[PyTree],
    pairs: Any,
    method: str | Method = "anchored_matching",
    *,
    folder: str | Path,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    key: jax.Array | None = None,
    batch: Count = 64,
    part: Count = 4096,
    room: Count = 2**30,
) -> Alignments:
    """Align many pairs of networks, more than memory holds, into a folder of Parquet.

    One program aligns a batch of pairs, spread over the devices of the process, while the next is read. Under
    `jax.distributed` each process takes its share of the parts, into a folder that all of them see. The key of a pair
    is drawn by the numbers of its two networks, so that neither devices, processes, an interruption nor the other pairs
    of the list change what is found; what is there is kept, and the same call goes on. A method that compares features
    of single networks, as `deep_align`, computes them once for all pairs that a network takes part in.

    Args:
      network: what all are, or its spec, for methods that read weights alone.
      networks: parameters by number; a list, or what `zoo.open_networks` gives.
      pairs: integers `[m, 2]`: the second of each is aligned to the first.
      method, data, task, key: as for `align`.
      folder: one for this call alone.
      batch: pairs that are aligned at once, made a multiple of the number of devices; halve it where memory is short.
      part: pairs a file.
      room: bytes on the host for the features of single networks. Where it does not hold those of all, the ones that
        were asked for last are kept, and pairs that share networks should be near each other.

    Returns:
      All alignments, those of other processes too.

    Raises:
      SpecError: more than the order of units is free, or a network does not fit the spec.
      FileError: the folder cannot be written, or is that of another call.
      ValueError: pairs that cannot be meant, a network that is not finite, or what the method says.

    >>> import tempfile
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes("h0")}, {"h0": 2})
    >>> networks = [{"w": np.float32(w)} for w in ([0, 3], [6, 0], [0, 9])]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     columns, perms = align_many(spec, networks, [[0, 1], [0, 2]], folder=folder, batch=1).part(0)
    >>> perms["h0"].tolist(), columns["after"].tolist()
    ([[1, 0], [0, 1]], [3.0, 6.0])
    """
    spec, data = spec_of("align_many", network), as_data("align_many", data)
    chosen = as_method(network, method, data)
    if spec.has_kinds:
        raise SpecError(
            f"align_many: orders alone are written, but the groups are of kinds {sorted(set(spec.kinds.values()))}; "
            "take spec.with_kinds() of the network's spec"
        )
    if not hasattr(networks, "__getitem__") or isinstance(networks, Mapping):
        raise ValueError(
            "align_many: networks must be a list of parameters, or what zoo.open_networks gives, found "
            f"{type(networks).__name__}; of a stack take_networks(stack, k) is one"
        )
    pairs = _read_pairs(pairs, len(networks))
    over_pairs = over_devices()
    batch = -(-batch // over_pairs.num_devices) * over_pairs.num_devices
    key = jax.random.key(0) if key is None else key
    chosen.check(network, networks[pairs[0, 0]], networks[pairs[0, 1]], data=data, task=task, key=key)

    folder, sizes = Path(folder), [min(part, len(pairs) - at) for at in range(0, len(pairs), part)]
    about = {
        "spec": spec.to_json(),
        "method": str(chosen),
        "options": [{name: _told(value) for name, value in sorted(one.options.items())} for one in chosen.parts],
        "parts": sizes,
        "pairs": hashlib.sha256(pairs.tobytes()).hexdigest()[:16],
        "key": jax.random.key_data(key).tolist(),
        "drawn by": "networks",
        "data": _told(data),
        "networks": len(networks),
    }
    describe(folder / ABOUT, about)
    found = open_alignments(folder)
    mine = [k for k in found.missing() if k % jax.process_count() == jax.process_index()]
    begins = {k: k * part for k in mine}
    # the last batch of a part repeats its last pair, so that all are one program
    numbers = {
        k: [
            np.minimum(np.arange(batch) + at, begins[k] + sizes[k] - 1)
            for at in range(begins[k], begins[k] + sizes[k], batch)
        ]
        for k in mine
    }
    ready = iter(_read_ahead(list(itertools.chain(*numbers.values())), lambda some: _load(networks, spec, pairs[some])))
    features = None
    if chosen.reuses and len(np.unique(pairs)) < pairs.size:
        encode = lambda some: _encode(network, chosen.parts[0], key, data, jax.device_put(some, over_pairs))
        features = Features(encode, batch=batch, count=len(networks), room=room)
    with extras.progress(total=sum(sizes[k] for k in mine), desc="aligning", unit="pair") as bar:
        for k in mine:
            solved = []
            for some in numbers[k]:
                read, a, b = next(ready)
                with enough_memory("align_many", {"batch": batch}):
                    seen = None
                    if features is not None:
                        features.add(read)
                        seen = tuple(features.of(side) for side in pairs[some].T.tolist())
                    given = jax.device_put((pairs[some].astype(np.uint32), a, b, seen), over_pairs)
                    solved.append(jax.device_get(_solve(network, task, chosen, key, data, *given)))
                bar.update(len(np.unique(some)))
                refuse_unsolved(solved[-1][0])
            perms, before, after = jax.tree.map(lambda *leaves, k=k: np.concatenate(leaves)[: sizes[k]], *solved)
            a, b = pairs[begins[k] : begins[k] + sizes[k]].T
            write_part(folder, k, {"a": a, "b": b, "before": before, "after": after}, perms)
    wait_for_all("align_many")
    return found


@compiled(2)
def _solve(network, task, method, key, data, pairs, a, b, features):
    spec = spec_of("align_many", network)

    def one(key, data, pair, a, b, features):
        own = key_of_pair(key, *pair)
        perms = method(network, a, b, key=own, data=data, task=task, features=features, checked=True).perms
        return perms, distance(spec, a, b), distance(spec, a, permute(spec, b, perms))

    return apart(one, 2, over_devices())(key, data, pairs, a, b, features)


@compiled(1)
def _encode(network, method, key, data, networks):
    one = lambda key, data, params: method.encode(network, params, key=key, data=data)
    return apart(one, 2, over_devices())(key, data, networks)


def _told(option: Any) -> str:
    """What an option is, of those that hold arrays a hash."""
    leaves = jax.tree.leaves(option)
    if not any(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
        return repr(option)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()[:16]


def _read_pairs(pairs: Any, count: int) -> np.ndarray:
    found = np.asarray(list(pairs) if isinstance(pairs, Iterator) else pairs)
    if found.ndim != 2 or found.shape[1:] != (2,) or not len(found) or not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"align_many: pairs must be integers [m, 2], m >= 1, found {found.dtype} {found.shape}")
    if found.min() < 0 or found.max() >= count:
        raise ValueError(
            f"align_many: pairs must be of networks 0 ... {count - 1}, found {int(found.min())} ... {int(found.max())}"
        )
    return found.astype(np.int64)


def _load(
    networks: Sequence[PyTree], spec: PermutationSpec, pairs: np.ndarray
) -> tuple[dict[int, PyTree], PyTree, PyTree]:
    """The networks of these pairs, each read once, and both sides of the pairs, stacked."""
    read = {k: networks[k] for k in np.unique(pairs).tolist()}
    for number, params in read.items():
        check_finite("align_many", spec, params, f"networks[{number}]")
    a, b = (stacked([read[k] for k in side]) for side in pairs.T.tolist())
    return read, a, b


def _read_ahead(numbers: Sequence[np.ndarray], load: Callable[[np.ndarray], Any]) -> Iterable[Any]:
    """What is loaded for each in turn, the next two while the present one is worked on."""
    grain = extras.load("grain")
    ahead = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
    return grain.MapDataset.range(len(numbers)).map(lambda k: load(numbers[k])).to_iter_dataset(ahead)
