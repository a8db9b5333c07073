"""Files and folders that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file or folder that takes the place of `path` in the end; on an error nothing is left of it.

    It has the same name in a folder of its own, which takes whatever else a library leaves there with it.
    """
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    old = folder / f"{path.name}.old"
    try:
        yield folder / path.name
        if path.is_dir() and (folder / path.name).is_dir():
            # no system replaces a folder that holds files in one step: the old one steps aside first
            os.replace(path, old)
        try:
            os.replace(folder / path.name, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    finally:
        if path.exists() or not old.exists():
            shutil.rmtree(folder, ignore_errors=True)


def write_bytes(file: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    try:
        with whole(file) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        # a full disk names no file, others the temporary one
        error.filename, error.filename2 = str(file), None
        raise
