"""safetensors: a header of names, types and places, then the numbers; one file, or shards with an index.

The header is read here since the library maps files whole and gives neither 8-bit floats nor places to NumPy; format:
https://github.com/huggingface/safetensors#format. What is written here has a checksum in each entry, which readers skip
that do not know it. In the metadata it would outlive the numbers, as people copy these from file to file.
"""

import dataclasses
import json
import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from dwalign.files.checksums import SUM, checksum
from dwalign.files.errors import FileError, few, reading
from dwalign.files.suffixes import is_weights
from dwalign.files.tensors import LazyArray, Weights, Writing

TYPES = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BOOL": bool,
        **{f"{sign}{bits}": f"{kind}int{bits}" for sign, kind in (("I", ""), ("U", "u")) for bits in (8, 16, 32, 64)},
        **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
        "C64": "complex64",
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    }.items()
}
CODES = {dtype: code for code, dtype in TYPES.items()}
LONGEST_HEADER = 100_000_000  # what the library reads
# an entry beside its name: 64 dimensions of at most 2^63 numbers, type, two places, checksum
ENTRY = 340
INDEX = ".safetensors.index.json"


class Layout(NamedTuple):
    """Which tensors lie in which file, the index of a folder of several with what it says beside that, and what lies
    beside them in a folder: config.json, the tokenizer and the like, without which nobody can load it.
    """

    shards: dict[str, list[str]]
    listed: str | None = None
    about: dict[str, Any] = {}  # noqa: RUF012
    beside: tuple[Path, ...] = ()


def open(path: Path) -> Weights:
    """A file, a folder that holds one index or one file, or an index."""
    if path.is_dir():
        indices = sorted(path.glob(f"*{INDEX}"))
        # save_pretrained leaves an index beside the whole file of another network, or a file beside another's index
        whole = [file for index in indices if (file := path / index.name.removesuffix(".index.json")).exists()]
        found = indices + whole or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise FileError(
                f"{path} must hold one index or one file, found {few([f.name for f in found])}; name one of them"
            )
        opened = open(found[0])
        return dataclasses.replace(opened, path=path, layout=opened.layout._replace(beside=_beside(path)))
    if path.name.endswith(INDEX):
        return _open_shards(path)
    arrays, metadata = _header(path)
    return Weights(path, "safetensors", arrays, metadata, layout=Layout({path.name: list(arrays)}))


def write(file: Path, writing: Writing) -> None:
    layout: Layout | None = writing.layout
    if layout is None or writing.path.suffix.lower() == ".safetensors":
        names = writing.names
        if layout is None and all(name in writing.known for name in names):
            # readers that map the file want numbers at multiples of their size
            names = sorted(names, key=lambda name: -np.dtype(writing.known[name].dtype).itemsize)
        _write_file(file, names, writing)
        return
    file.mkdir()
    for other in layout.beside:
        shutil.copy2(other, file)
    sizes = [_write_file(file / shard, names, writing) for shard, names in layout.shards.items()]
    if layout.listed is None:
        return
    about = {**layout.about, "total_size": sum(nbytes for nbytes, _ in sizes)}
    if "total_parameters" in about:
        about["total_parameters"] = sum(count for _, count in sizes)
    places = {name: shard for shard, names in layout.shards.items() for name in names}
    text = json.dumps({"metadata": about, "weight_map": dict(sorted(places.items()))}, indent=2)
    (file / layout.listed).write_text(text + "\n")


def _open_shards(index: Path) -> Weights:
    with reading(index, "the index of a sharded safetensors file"):
        content = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=partial(_unique, index))
        places, about = content["weight_map"], content.get("metadata") or {}
        named: dict[str, list[str]] = {}
        for name, file in places.items():
            if Path(file).name != file:
                raise FileError(f"{index}: the shard of {name} must lie beside the index, found {file!r}")
            named.setdefault(file, []).append(name)
    arrays: dict[str, LazyArray] = {}
    metadata: dict[str, str] = {}
    shards = {}
    for file, names in sorted(named.items()):
        if not (index.parent / file).exists():
            raise FileError(f"{index.parent / file} is missing, {index.name} puts {few(names)} there; fetch it")
        found, said = _header(index.parent / file)
        other = sorted(set(names) ^ set(found))
        if other:
            raise FileError(
                f"{index.parent / file} must hold the tensors that {index.name} puts there; only one of them has "
                f"{few(other)}; fetch both again"
            )
        arrays |= found
        metadata |= said
        shards[file] = list(found)
    layout = Layout(shards, index.name, about, _beside(index.parent))
    return Weights(index.parent, "safetensors", arrays, metadata, layout=layout)


def _beside(folder: Path) -> tuple[Path, ...]:
    """What is no weights, and speaks of none: an index of what is not written would name files that are missing."""
    return tuple(file for file in sorted(folder.iterdir()) if file.is_file() and not is_weights(file))


def _header(file: Path) -> tuple[dict[str, LazyArray], dict[str, str]]:
    with reading(file, "a whole safetensors file"):
        size = file.stat().st_size
        with file.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if not 2 <= length <= min(size - 8, LONGEST_HEADER):
                raise FileError(
                    f"{file} must be a whole safetensors file, but claims a header of {length} bytes and has {size}; "
                    "it is cut off or of another format, fetch it again"
                )
            header = json.loads(handle.read(length).decode(), object_pairs_hook=partial(_unique, file))
        if not isinstance(header, dict):
            raise FileError(
                f"{file} must be a whole safetensors file, but its header is {type(header).__name__}; fetch it again"
            )
        metadata = header.pop("__metadata__", {})
        places = sorted((_place(file, name, entry) for name, entry in header.items()), key=lambda place: place[3])
        end = 0
        for name, _, _, begin, stop in places:
            if begin != end:
                fault = "overlaps what lies before" if begin < end else "leaves a gap"
                raise FileError(f"{file}: {name} {fault}, at byte {begin} instead of {end}; write the file again")
            end = stop
        if end != size - 8 - length:
            raise FileError(
                f"{file} must be a whole safetensors file of {8 + length + end} bytes, found {size}; fetch it again"
            )
        sums = {name: entry.get(SUM) for name, entry in header.items()}
        begins = 8 + length
        arrays = {
            name: LazyArray(shape, dtype, partial(_read, file, begins + begin, shape, dtype), name, file, sums[name])
            for name, shape, dtype, begin, _ in places
        }
        return arrays, {str(key): str(value) for key, value in metadata.items()}


def _place(file: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], np.dtype, int, int]:
    code, shape, (begin, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if code not in TYPES:
        raise FileError(f"{file}: {name} must be of a type among {', '.join(TYPES)}, found {code!r}; convert it")
    dtype = TYPES[code]
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (*shape, begin, stop)) or len(shape) > 64:
        raise FileError(f"{file}: {name} must have a shape and places of whole numbers, found {entry!s:.120}")
    if stop - begin != math.prod(shape) * dtype.itemsize:
        raise FileError(
            f"{file}: {name} of shape {shape} and type {code} cannot be {stop - begin} bytes; fetch it again"
        )
    return name, shape, dtype, begin, stop


def _unique(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FileError(f"{file} must name each tensor once, found {twice} twice; write it again")
    return content


def _read(file: Path, begin: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    count = math.prod(shape) * dtype.itemsize
    return np.fromfile(file, np.uint8, count, offset=begin).view(dtype).reshape(shape)


def _write_file(file: Path, names: list[str], writing: Writing) -> tuple[int, int]:
    """Write one file; how many bytes and numbers it has. The header comes last, into the room kept for it."""
    metadata = {"__metadata__": writing.metadata} if writing.metadata else {}
    room = len(json.dumps(metadata)) + sum(len(json.dumps(name)) + ENTRY for name in names)
    room = -(-room // 8) * 8
    entries: dict[str, Any] = {}
    total = count = 0

    def append(handle, name: str) -> tuple[int, int]:
        array = writing.pull(name)
        if name == "__metadata__":
            raise FileError(f"{writing.path}: {name} must be named otherwise, safetensors keeps that name for itself")
        if array.dtype not in CODES:
            raise FileError(
                f"{writing.path}: {name} must be of a type that safetensors has "
                f"({', '.join(sorted(map(str, CODES)))}), found {array.dtype}; convert it"
            )
        place = [total, total + array.nbytes]
        entries[name] = {"dtype": CODES[array.dtype], "shape": array.shape, "data_offsets": place}
        entries[name][SUM] = checksum(name, array)
        handle.write(array.reshape(-1).view(np.uint8))
        return array.nbytes, array.size

    with file.open("wb") as handle:
        handle.seek(8 + room)
        for name in names:
            nbytes, size = append(handle, name)
            total, count = total + nbytes, count + size
        header = json.dumps({**metadata, **entries}, separators=(",", ":")).encode()
        handle.seek(0)
        handle.write(room.to_bytes(8, "little") + header.ljust(room))
    return total, count
