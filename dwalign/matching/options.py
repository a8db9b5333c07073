"""What the options of methods mean, the same in every method, and what values they may have."""

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Law(NamedTuple):
    """Whether a value fits, and what must hold."""

    fits: Callable[[Any], bool]
    text: str


def _whole(least: int) -> Law:
    fits = lambda x: isinstance(x, numbers.Integral) and not isinstance(x, bool) and int(x) >= least
    return Law(fits, f"a whole number of at least {least}")


def _real(positive: bool = False) -> Law:
    fits = lambda x: isinstance(x, numbers.Real) and math.isfinite(x) and (float(x) > 0 or not positive)
    traced = lambda x: isinstance(x, jax.Array) and not x.ndim
    return Law(lambda x: traced(x) or fits(x), f"a finite{' positive' if positive else ''} number")


LAWS = {
    "aligner": Law(
        lambda x: hasattr(x, "model") and hasattr(x, "variables"),
        "an Aligner; deepalign.load_aligner(folder) reads the one in a folder",
    ),
    **dict.fromkeys(("iterations", "steps"), _whole(0)),
    **dict.fromkeys(
        ("restarts", "sweeps", "images", "examples", "chunk", "sinkhorn_iterations", "channels", "rounds"), _whole(1)
    ),
    **dict.fromkeys(("learning_rate", "momentum", "spread"), _real()),
    "temperature": _real(positive=True),
}
MAY_BE_NONE = {"examples"}


def check_options(method: str, **options: Any) -> None:
    """Raise `ValueError` for the first option whose value cannot be meant; options without a law pass."""
    for name, value in options.items():
        if name in LAWS and not (LAWS[name].fits(value) or (value is None and name in MAY_BE_NONE)):
            shown = f"{value!r}" if isinstance(value, str | numbers.Number) else type(value).__name__
            raise ValueError(f"{method}: {name} must be {LAWS[name].text}; got {shown}")
