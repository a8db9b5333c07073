"""How many programs XLA compiles inside a block."""

import contextlib
from collections.abc import Callable, Iterator

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def count_compilations() -> Iterator[Callable[[], int]]:
    """Yields a function that says how many there were."""
    seen: list[str] = []

    def listen(event, duration, **_):
        if event == EVENT:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield lambda: len(seen)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
