"""What is wrong with a file, in one line that names it."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path


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
