"""What is wrong with a file, in one line that names it."""

import contextlib
import errno
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path

# seconds for what a library has begun
WAIT = 30


class FileError(RuntimeError):
    """A file that cannot be read or written."""


def said(error: Exception) -> str:
    """What another library said, on one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return f"{type(error).__name__}: {' '.join(text.split())[:200]}" if text.strip() else type(error).__name__


def few(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Nothing from Orbax's log: beside what it raises it prints a traceback for each of its threads.

    Those that are still at work when one has failed are waited for, so that none writes later.
    """
    log, before = logging.getLogger("absl"), threading.enumerate()
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if type(thread).__module__.startswith("orbax") and thread not in before:
                thread.join(WAIT)
        log.disabled = disabled


@contextlib.contextmanager
def reading(file: Path, what: str) -> Iterator[None]:
    """Whatever a library raises on a damaged file, said as a FileError."""
    try:
        yield
    except (FileError, ImportError):
        raise
    except Exception as error:  # libraries raise many kinds for damaged and foreign files
        raise FileError(
            f"{file} must be {what}, but could not be read ({said(error)}); fetch or write it again"
        ) from error


REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow writing there or choose another folder"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "make the folder again or choose another"),
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Whatever the system says to a write, as a FileError that names what was to be written."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "free space or choose another folder")
        raise FileError(
            f"{path} could not be written ({error.strerror or error}); {remedy}. What was there before is kept"
        ) from error
