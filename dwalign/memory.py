"""Memory that is full: which option makes a computation smaller, in place of what XLA says."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

SMALLER = ("chunk", "examples", "images", "batch_size", "batch")
"""Options that say how much is computed at once."""


@contextlib.contextmanager
def enough_memory(caller: str, options: Mapping[str, Any]) -> Iterator[None]:
    """What JAX raises when the memory of a device is full (`RESOURCE_EXHAUSTED`), with the option to try.

    Args:
      caller: the function that was called.
      options: its options with their values; of those in `SMALLER` half is proposed.

    Raises:
      MemoryError: memory is full.

    >>> with enough_memory("curve", {"chunk": 2048}):
    ...     raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")
    Traceback (most recent call last):
    ...
    MemoryError: curve: the memory of the device is full, 17,179,869,184 bytes more were needed; try chunk=1024
    """
    try:
        yield
    except RuntimeError as error:  # JAX's own, which it raises under several names
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = re.search(r"allocat\w* (\d+) bytes", str(error))
        more = f", {int(found[1]):,} bytes more were needed" if found else ""
        halves = {name: _half(options[name]) for name in SMALLER if name in options}
        first = next((f"{name}={half}" for name, half in halves.items() if half), None)
        advice = first or "less data, a smaller network, or the memory of the host (JAX_PLATFORMS=cpu)"
        raise MemoryError(f"{caller}: the memory of the device is full{more}; try {advice}") from error


def _half(value: Any) -> int | None:
    """Of all that there are nobody knows the half."""
    return 256 if value is None else value // 2 or None if isinstance(value, int) else None
