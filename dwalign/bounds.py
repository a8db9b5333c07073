"""What an option may be, written beside it: its bound stands in its type, and is checked where the option is given.

>>> @settings
... class Cut:
...     pieces: Count = 2
...     share: Share | None = None
>>> Cut(pieces=3, share=0.5).pieces
3
>>> Cut(pieces=0)
Traceback (most recent call last):
    ...
ValueError: Cut: pieces must be a whole number of at least 1; got 0

A `Literal` is a bound too, and so are parts: `tuple[Count, ...]` are counts, `Count | None` may be left out. Neither a
command line nor a call gets past the bounds, and no other place repeats them. Nothing heavy is loaded here.
"""

import dataclasses
import functools
import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, TypeVar

from dwalign.memory import enough_memory

P = ParamSpec("P")
T = TypeVar("T")


class Law(NamedTuple):
    """Whether a value fits, and what must hold."""

    fits: Callable[[Any], bool]
    text: str


def whole(least: int) -> Law:
    """A whole number; a truth value is none."""
    fits = lambda x: isinstance(x, numbers.Integral) and not isinstance(x, bool) and int(x) >= least
    return Law(fits, f"a whole number of at least {least}")


def real(text: str, fits: Callable[[float], bool] = lambda x: True) -> Law:
    """A finite number that fits; of a scalar array, which may be traced, the value is not asked for."""
    number = lambda x: isinstance(x, numbers.Real) and not isinstance(x, bool) and math.isfinite(x)
    return Law(lambda x: fits(float(x)) if number(x) else _is_scalar_array(x), text)


def one_of(choices: Collection[Any]) -> Law:
    """One of some values."""
    return Law(lambda x: isinstance(x, str | numbers.Number) and x in choices, f"one of {sorted(choices, key=str)}")


Amount = Annotated[int, whole(0)]
Count = Annotated[int, whole(1)]
Several = Annotated[int, whole(2)]
Points = Annotated[
    int,
    Law(
        lambda x: whole(3).fits(x) and x % 2 == 1,
        "a whole number that is odd and at least 3, so that the midpoint is one",
    ),
]
Number = Annotated[float, real("a finite number")]
Positive = Annotated[float, real("a finite positive number", lambda x: x > 0)]
Strength = Annotated[float, real("a finite number of at least 0", lambda x: x >= 0)]
Share = Annotated[float, real("a share from 0 to 1", lambda x: 0 <= x <= 1)]
Part = Annotated[float, real("a number between 0 and 1, neither of them", lambda x: 0 < x < 1)]
Names = Annotated[
    Sequence[str],
    Law(
        lambda x: isinstance(x, Collection) and not isinstance(x, str) and all(isinstance(part, str) for part in x),
        "a list of names",
    ),
]
Widths = Annotated[
    Sequence[int],
    Law(
        lambda x: isinstance(x, list | tuple) and len(x) > 0 and all(whole(1).fits(part) for part in x),
        "the widths of at least one hidden layer, whole numbers of at least 1",
    ),
]


Shape = Annotated[
    Sequence[int],
    Law(
        lambda x: isinstance(x, list | tuple) and len(x) == 3 and all(whole(1).fits(part) for part in x),
        "the height, width and channels of an image, whole numbers of at least 1",
    ),
]


@typing.dataclass_transform(frozen_default=True)
def settings(kind: type[T]) -> type[T]:
    """A frozen dataclass that cannot be made with a field out of its bounds: `ValueError` says what must hold."""

    def check_fields(self: Any) -> None:
        laws = _laws_of_fields(self.__class__)
        check(type(self).__name__, laws, {name: getattr(self, name) for name in laws})

    kind.__post_init__ = check_fields  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(kind)


def bounded(function: Callable[P, T]) -> Callable[P, T]:
    """A function that checks its arguments by their types before it runs, and says what to try where memory is full.

    >>> bounded(lambda: 1)()
    1
    """
    laws, parameters, caller = laws_of(function), inspect.signature(function).parameters, function.__name__
    names, defaults = tuple(parameters), {name: p.default for name, p in parameters.items()}

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        check(caller, laws, kwargs)
        if args:
            check(caller, laws, dict(zip(names, args, strict=False)))
        with enough_memory(caller, {**defaults, **kwargs}):
            return function(*args, **kwargs)

    return checked


def check(caller: str, laws: Mapping[str, Law], given: Mapping[str, Any]) -> None:
    """Raise `ValueError` for the first value that is out of its bounds."""
    for name, value in given.items():
        if name in laws and not laws[name].fits(value):
            raise ValueError(f"{caller}: {name} must be {laws[name].text}; got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a message: of numbers, texts and short lists what they are, of all else the type."""
    plain = lambda x: x is None or isinstance(x, str | numbers.Number)
    if plain(value) or (isinstance(value, list | tuple) and all(map(plain, value))):
        return f"{value!r:.120}"
    return type(value).__name__


@functools.cache
def laws_of(function: Callable) -> Mapping[str, Law]:
    """The laws of a function's parameters, by their names."""
    hints = {name: p.annotation for name, p in inspect.signature(function).parameters.items()}
    return {name: law for name, hint in hints.items() if (law := _law(hint))}


@functools.cache
def _laws_of_fields(kind: Any) -> Mapping[str, Law]:
    return {field.name: law for field in dataclasses.fields(kind) if (law := _law(field.type))}


def _law(hint: Any) -> Law | None:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return next((part for part in parts[1:] if isinstance(part, Law)), _law(parts[0]))
    if origin is typing.Literal:
        return one_of(parts)
    if origin in (typing.Union, types.UnionType):
        laws = [law for part in parts if part is not type(None) and (law := _law(part))]
        empty = type(None) in parts
        if len(laws) != len(parts) - empty:
            return None
        text = " or ".join([law.text for law in laws] + ["None"] * empty)
        return Law(lambda x: (x is None and empty) or any(law.fits(x) for law in laws), text)
    if origin in (tuple, Sequence) and parts[1:] in ((), (...,)) and (each := _law(parts[0])):
        return Law(lambda x: isinstance(x, list | tuple) and all(map(each.fits, x)), f"a sequence, each {each.text}")
    # of records that check themselves; of others a guard says more than the name
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hasattr(hint, "__post_init__"):
        return Law(lambda x: isinstance(x, hint), f"a {hint.__name__}")
    return Law(lambda x: isinstance(x, bool), "True or False") if hint is bool else None


def _is_scalar_array(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0 and not isinstance(value, str | numbers.Number)
