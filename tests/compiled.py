"""The programs that XLA compiles inside a block."""

import contextlib
from collections.abc import Iterator

import jax

EVENT = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """Yields their names, as they are compiled."""
    seen: list[str] = []

    def listen(event, duration, **about):
        if event == EVENT:
            seen.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


# what is compiled for one value of it is not found with another
_CACHES = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def all_compilations() -> Iterator[list[str]]:
    """`compilations` with empty caches, so that what was compiled before is seen as well.

    The others stay as they are: to empty them takes seconds, and to fill them again longer.
    """
    with _CACHES(object()), compilations() as seen:
        yield seen
