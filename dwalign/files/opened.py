"""Weights on disk in every format, opened tensor by tensor."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from dwalign.files import keras, msgpack, npz, orbax, safetensors, torch
from dwalign.files.errors import FileError, said
from dwalign.files.suffixes import LISTED, SUFFIXES, UNREAD
from dwalign.files.tensors import Weights

FORMATS = {"safetensors": safetensors, "npz": npz, "msgpack": msgpack, "orbax": orbax, "keras": keras, "torch": torch}
MSGPACK_TEXT = bytes((*range(0xA0, 0xC0), 0xD9))
MAGIC: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("an empty file", lambda head: not head),
    ("a Git LFS pointer", lambda head: head.startswith(b"version https://git-lfs")),
    ("a web page", lambda head: head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))),
    ("keras", lambda head: head.startswith(b"\x89HDF\r\n")),
    ("torch", lambda head: head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and head[2:3] in b"\x8a\x95}c"),
    ("safetensors", lambda head: head[8:9] == b"{" and head[5:8] == b"\0\0\0"),
    ("a NumPy array (.npy)", lambda head: head.startswith(b"\x93NUMPY")),
    ("gzip", lambda head: head.startswith(b"\x1f\x8b")),
    ("msgpack", lambda head: head[0] in (*range(0x81, 0x90), 0xDE, 0xDF) and head[1:2] in MSGPACK_TEXT),
)


def open_weights(path: str | Path) -> Weights:
    """Open a file or folder of weights; tensors are read when NumPy asks for them.

    Args:
      path: safetensors (a file, a folder of one or of shards, or their index), `.npz`, Flax's `.msgpack`, a folder of
        Orbax, Keras's `.weights.h5` or `.keras`, torch's `.pt`, `.pth`, `.bin`, `.ckpt`. Nothing in it is executed.

    Returns:
      a mapping of names to tensors with `shape` and `dtype`, in the order of the file.

    Raises:
      FileError: missing, damaged, or of another format than its name says.
      ImportError: the library of this format is not installed.

    >>> import tempfile, numpy as np
    >>> from dwalign.files import write_weights
    >>> file = Path(tempfile.mkdtemp()) / "w.safetensors"
    >>> write_weights(file, {"dense/kernel": np.eye(2, dtype=np.float32)})
    >>> weights = open_weights(file)
    >>> weights["dense/kernel"].shape, np.asarray(weights["dense/kernel"]).sum()
    ((2, 2), np.float32(2.0))
    """
    path = Path(path)
    try:
        return FORMATS[_format(path)].open(path)
    except OSError as error:
        raise FileError(f"{path} must be weights that can be read, but could not be ({said(error)})") from error


def _format(path: Path) -> str:
    if path.name.endswith(safetensors.INDEX):
        return "safetensors"
    return _in_folder(path) if path.is_dir() else _in_file(path)


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
    if path.suffix.lower() in UNREAD:
        raise FileError(
            f"{path} must be of a format that names its arrays and runs no code ({LISTED}), found {path.suffix}; "
            "load it with what wrote it, and write the params of dwalign.from_model with dwalign.save_params"
        )
    if wanted is None:
        raise FileError(f"{path} must end in one of {LISTED}; rename it to the format it has")
    if wanted == "orbax":
        raise FileError(f"{path} must be a folder, as Orbax writes one, found a file; rename it to the format it has")
    if not path.is_file():
        raise FileError(f"{path} must be a file of weights, found something else; check the name")
    found = _looks_like(path)
    if found is not None and found != wanted:
        raise FileError(f"{path} must be {wanted} by its name, but looks like {found}; rename or fetch it again")
    return wanted


def _looks_like(path: Path) -> str | None:
    """The format that the first bytes tell, None where they do not."""
    with path.open("rb") as handle:
        head = handle.read(64)
    if not head.startswith(b"PK\3\4"):
        return next((name for name, told in MAGIC if told(head)), None)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception:  # of many kinds for a damaged directory; who opens the file says what is wrong
        return None
    if any(member.endswith("data.pkl") for member in members):
        return "torch"
    if "model.weights.h5" in members:
        return "keras"
    return "npz" if members and all(member.endswith(".npy") for member in members) else "a zip of other files"
