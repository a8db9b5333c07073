"""Files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A free path beside `path`, for a file or a folder: it gets that name at the end, or goes on an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _replace_folder(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    with whole(file) as temporary:
        temporary.write_bytes(data)


def _replace_folder(new: Path, old: Path) -> None:
    """No system replaces a folder that holds files in one step: the old one steps aside until the new one is there."""
    aside = old.with_name(f".{old.name}.{os.getpid()}.old")
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        os.replace(aside, old)
        raise
    shutil.rmtree(aside)
