"""Files and folders that appear whole or not at all.

Whoever writes holds a lock on the folder it writes in, which the system takes away from a process that is killed: what
nobody holds is swept up by the next who writes the same path. Readers repair nothing.
"""

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dwalign.files.errors import FileError, writing

try:
    import fcntl
except ImportError:  # Windows, where nothing can tell the living from the dead and what they leave stays
    fcntl = None  # type: ignore[assignment]

OVERHEAD = 2**16  # bytes that a format adds to its arrays


@contextlib.contextmanager
def whole(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Where to write a file or folder that takes the place of `path` in the end; on an error nothing is left of it.

    It has the same name in a folder of its own, which takes whatever else a library leaves there with it.

    Args:
      new: it takes no place of what another writer has put there meanwhile.

    Raises:
      FileError: the system refuses to write, or there is one that shall be new; what was there before is kept.
    """
    with writing(path), contextlib.ExitStack() as stack:
        with _held(path.parent, wait=True):  # so that nobody takes a folder for left behind before it is held
            _sweep(path)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
            stack.enter_context(_held(folder))
        old = folder / f"{path.name}.old"
        try:
            yield folder / path.name
            if new:
                stack.enter_context(_held(path.parent, wait=True))
                if os.path.lexists(path):
                    raise FileError(f"{path} exists: another has written it meanwhile; choose another name")
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
    """Write a file so that it appears whole or not at all.

    Raises:
      FileError: the system refuses to write; what was there before is kept.
    """
    with whole(file) as temporary:
        temporary.write_bytes(data)


def reserve(folder: Path, needed: int) -> None:
    """Raise the system's OSError unless `needed` bytes can be written to a file in this folder now.

    For libraries whose threads write on after an error: with no room they must not begin.
    """
    if hasattr(os, "posix_fallocate"):
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, needed + OVERHEAD)
            except OSError as error:
                # a file system that reserves nothing says no more than that
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise


def _sweep(path: Path) -> None:
    """Take away what writers of this path have left that were killed, and put back what they had set aside."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with _held(left) as alone:
            if not alone:
                continue
            old = left / f"{path.name}.old"
            if old.exists() and not path.exists():
                os.replace(old, path)
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Holds the lock of a folder, if nobody else does or after a wait."""
    if fcntl is None:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            alone = True
        except OSError:  # held, or on a file system without locks
            alone = False
        yield alone
    finally:
        os.close(handle)
