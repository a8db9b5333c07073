"""torch: a state dict, alone or inside whatever a training script saved with it. Nothing in the file is executed.

Tensors are mapped, not loaded. To write, torch saves the whole object with room for the numbers, which are then put
there one tensor at a time; tensors that share their memory go on sharing it.
"""

import argparse
import copy
import hashlib
import mmap
import os
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  its types get names in NumPy
import numpy as np

from dwalign.extras import load
from dwalign.files.errors import FileError, reading, said
from dwalign.files.tensors import LazyArray, Weights, Writing, is_foreign
from dwalign.files.zips import Member, members, seal

# what scripts call the state dict inside of what they save; the first two are never part of one
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params")
SAFE = [argparse.Namespace]  # the options of a script: plain values
Place = tuple[Any, ...]


class Layout(NamedTuple):
    """The object that was saved, and where in it each name lies."""

    content: Any
    places: dict[str, Place]


def open(path: Path) -> Weights:
    torch = load("torch")
    with reading(path, "a whole file of torch"):
        try:
            # files from before torch 1.6 are no zip and cannot be mapped
            mapped = zipfile.is_zipfile(path)
            parts = members(path) if mapped else {}
            if any("/code/" in name for name in parts):
                raise FileError(f"{path} must hold tensors, found a program of TorchScript; save model.state_dict()")
            for part in (part for name, part in parts.items() if "/data/" not in name):
                _checked(path, np.fromfile(path, np.uint8, part.size, offset=part.begin), part)
            with torch.serialization.safe_globals(SAFE):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:
            if type(error).__name__ != "UnpicklingError":
                raise
            found = re.search(r"GLOBAL (\S+)", str(error))
            what = f"found {found[1]}" if found else "found something else, or damage"
            raise FileError(
                f"{path} must hold tensors and plain values only, {what}; save model.state_dict()"
            ) from error
        outer, place_of = _wrapped(content), _in_file(parts, content)
        whole: dict[tuple[int | None, int], Member] = {(part.begin, part.size): part for part in parts.values()}
        arrays: dict[str, LazyArray] = {}
        ties, places, first = {}, {}, {}
        for place, tensor in _tensors(content):
            if place[: len(outer)] != outer or place == ():
                continue
            name = "/".join(map(str, place[len(outer) :]))
            if name in places:
                raise FileError(f"{path} must give each tensor a name of its own, found {name} twice; rename one")
            dtype = _dtype(path, name, tensor)
            begin = place_of(tensor)
            read = partial(_read, path, tensor, dtype, begin, whole.get((begin, tensor.numel() * dtype.itemsize)))
            arrays[name] = LazyArray(tuple(tensor.shape), dtype, read, name, path)
            places[name] = place
            owner = first.setdefault(_view(tensor), name) if tensor.numel() else name
            if owner != name:
                ties[name] = owner
        if not arrays:
            raise FileError(f"{path} must hold named tensors, found {type(content).__name__}; save model.state_dict()")
    return Weights(path, "torch", arrays, ties=ties, layout=Layout(content, places))


def write(file: Path, writing: Writing) -> None:
    torch = load("torch")
    pull, known = writing.pull, writing.known
    if not all(name in known for name in writing.names):
        arrays = {name: pull(name) for name in writing.names}
        pull, known = arrays.__getitem__, arrays
    layout: Layout | None = writing.layout
    places = layout.places if layout else {name: (name,) for name in writing.names}
    named = {place: name for name, place in places.items()}
    typed = {name: getattr(torch, np.dtype(known[name].dtype).name, None) for name in writing.names}
    for name, dtype in typed.items():
        if not isinstance(dtype, torch.dtype):
            raise FileError(
                f"{writing.path}: {name} must be of a type that torch has, found {known[name].dtype}; convert it"
            )
    content = layout.content if layout else {name: torch.empty(0) for name in writing.names}
    room = _room(lambda place: (tuple(known[named[place]].shape), typed[named[place]]) if place in named else None)
    try:
        with torch.serialization.skip_data():
            torch.save(_replaced(content, room), file)
        if hasattr(os, "posix_fallocate"):  # a full disk says so here, not by a signal when memory is written
            with file.open("r+b") as handle:
                os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
        loading = torch.serialization
        with loading.set_default_mmap_options(mmap.MAP_SHARED), loading.safe_globals(SAFE):
            target = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        raise FileError(f"{writing.path} could not be written by torch ({said(error)}); free space") from error
    old, new = dict(_tensors(content)), dict(_tensors(target))
    users = Counter(tensor.untyped_storage().data_ptr() for tensor in new.values())
    written: dict[Place, bytes] = {}
    place_of = _in_file(members(file), target)
    for place, tensor in new.items():
        array = pull(named[place]) if place in named else _numpy(old[place])
        if array.shape != tuple(tensor.shape):
            raise FileError(
                f"{writing.path}: {named.get(place)} must keep its shape {tuple(tensor.shape)} in a file of torch "
                f"that is written like another, found {array.shape}; write .safetensors"
            )
        _put(file, tensor, place_of(tensor), array)
        if users[tensor.untyped_storage().data_ptr()] > 1:
            written[place] = _digest(array)
        del array
    seal(file)
    for place, digest in written.items():
        if _digest(_numpy(new[place])) != digest:
            raise FileError(
                f"{writing.path}: {named.get(place, place)} shares memory with another tensor and must agree with it, "
                "but the two differ; write .safetensors to keep both"
            )


def _wrapped(content: Any) -> Place:
    """The keys that lead to the state dict."""
    torch = load("torch")
    if isinstance(content, dict):
        # a last loss may lie beside it
        bare = any(isinstance(value, torch.Tensor) for value in content.values())
        for key in WRAPPERS[:2] if bare else WRAPPERS:
            if isinstance(content.get(key), dict) and next(_tensors(content[key]), None):
                return (key, *_wrapped(content[key]))
    return ()


def _tensors(node: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(node, load("torch").Tensor):
        yield place, node
    elif isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _tensors(value, (*place, key))


def _replaced(node: Any, new: Callable[[Place, Any], Any], place: Place = ()) -> Any:
    """The same object with other tensors. Shallow copies keep what an ordered dictionary carries, such as versions."""
    if isinstance(node, load("torch").Tensor):
        return new(place, node)
    if isinstance(node, dict):
        made = copy.copy(node)
        for key, value in node.items():
            made[key] = _replaced(value, new, (*place, key))
        return made
    if isinstance(node, list | tuple):
        items = [_replaced(value, new, (*place, key)) for key, value in enumerate(node)]
        return items if isinstance(node, list) else tuple(items)
    return node


def _room(wanted: Callable[[Place], tuple[tuple[int, ...], Any] | None]) -> Callable[[Place, Any], Any]:
    """Makes tensors without numbers, which share memory where the old ones did, if shapes and types are theirs."""
    torch = load("torch")
    storages: dict[int, Any] = {}
    same: dict[Any, Any] = {}

    def new(place: Place, old: Any) -> Any:
        shape, dtype = wanted(place) or (tuple(old.shape), old.dtype)
        if not old.numel() or (shape, dtype) != (tuple(old.shape), old.dtype):
            made = torch.empty(shape, dtype=dtype)
            return made if not old.numel() else same.setdefault((_view(old), shape, dtype), made)
        storage = old.untyped_storage()
        storage = storages.setdefault(storage.data_ptr(), torch.UntypedStorage(storage.nbytes()))
        made = torch.empty(0, dtype=dtype).set_(storage, old.storage_offset(), old.shape, old.stride())
        return torch.nn.Parameter(made, old.requires_grad) if isinstance(old, torch.nn.Parameter) else made

    return new


def _view(tensor: Any) -> tuple:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _dtype(path: Path, name: str, tensor: Any) -> np.dtype:
    torch = load("torch")
    if tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu":
        try:
            return np.dtype(str(tensor.dtype).removeprefix("torch."))
        except TypeError:
            pass
    raise FileError(
        f"{path}: {name} must be a dense tensor of a type that NumPy or ml_dtypes has, found {tensor.layout} "
        f"{tensor.dtype} on {tensor.device.type}; convert it"
    )


def _numpy(tensor: Any) -> np.ndarray:
    """The memory of a tensor as NumPy sees it: types that torch cannot hand over go as integers of their size."""
    torch = load("torch")
    dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
    if is_foreign(dtype):
        tensor = tensor.view({1: torch.uint8, 2: torch.int16}[dtype.itemsize])
    return tensor.detach().numpy().view(dtype)


def _in_file(parts: Mapping[str, Member], content: Any) -> Callable[[Any], int | None]:
    """Where the numbers of a mapped tensor begin in the file, None if they do not lie there one after the other.

    What is read from there, not from the map, takes no memory of this process.
    """
    dense = (tensor for _, tensor in _tensors(content) if tensor.numel() and tensor.layout == load("torch").strided)
    pointers = {tensor.untyped_storage().data_ptr() for tensor in dense}
    places = {part.begin for name, part in parts.items() if "/data/" in name}
    # storages lie in the map as members lie in the file
    base = min(pointers, default=0) - min(places, default=0)
    if {pointer - base for pointer in pointers} != places:
        return lambda tensor: None
    lies = lambda tensor: tensor.numel() and tensor.layout == load("torch").strided and tensor.is_contiguous()
    return lambda tensor: tensor.data_ptr() - base if lies(tensor) else None


def _read(path: Path, tensor: Any, dtype: np.dtype, begin: int | None, part: Member | None) -> np.ndarray:
    """The numbers; `part` is where they lie if they are all that lies there."""
    if begin is None:
        return _numpy(tensor).copy()
    found = np.fromfile(path, np.uint8, tensor.numel() * dtype.itemsize, offset=begin)
    return _checked(path, found, part).view(dtype).reshape(tuple(tensor.shape))


def _checked(path: Path, found: np.ndarray, part: Member | None) -> np.ndarray:
    """The bytes, if they have the checksum that was written with them: torch writes it and never looks at it."""
    if part is not None and part.checksum not in (0, zlib.crc32(found)):
        raise FileError(f"{path} must hold the bytes that were written, but some have changed; fetch it again")
    return found


def _put(file: Path, tensor: Any, begin: int | None, array: np.ndarray) -> None:
    if begin is None:
        _numpy(tensor)[...] = array
        return
    with file.open("r+b") as handle:
        handle.seek(begin)
        handle.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).digest()
