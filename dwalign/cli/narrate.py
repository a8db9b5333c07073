"""What a command tells while it works, and in the end."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def stage(text: str) -> Iterator[None]:
    """Name what is going on, on stderr, and how long it took once it is over."""
    live = sys.stderr.isatty()
    begin = time.perf_counter()
    if live:
        print(f"  {text} ...", end="\r", file=sys.stderr, flush=True)
    yield
    print(f"  {text}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)


def answer(found: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """Print the result on stdout: the text, or the values as one JSON object."""
    print(json.dumps(_finite(found), indent=1) if as_json else text)


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are null."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    line = lambda row: "  ".join(
        cell.rjust(width) if k else cell.ljust(width) for k, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "\n".join(line(row).rstrip() for row in (head, *rows))


def weight_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def size(count: float) -> str:
    """Bytes as people read them.

    >>> size(44_700_000)
    '44.7 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
