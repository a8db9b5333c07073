"""What the library says of a call, said of a command."""

import dataclasses
import re
import types
from typing import Any

from dwalign.memory import SMALLER

CALLER = re.compile(r"^(\w+)[\w@+]*: ")
ARGUMENT = re.compile(r"\b([a-z_]+)=('?)([\w.]+)\2")


def in_words(error: Exception, asked: Any = None) -> str:
    """One line without the function that was called or the command, with options for arguments.

    Args:
      error: of any kind.
      asked: the options of the command, a dataclass; None before there are any.

    >>> in_words(ValueError("align: weights must be finite"))
    'weights must be finite'
    >>> in_words(MemoryError("curve: the memory of the device is full; try chunk=1024"))
    'the memory of the device is full; try the memory of the host (JAX_PLATFORMS=cpu)'
    """
    text = " ".join(str(error).split())
    options = {name.split(".")[-1]: f"--{name.replace('_', '-')}" for name in _names(asked)}
    command = type(asked).__module__.split(".")[-1]
    if (found := CALLER.match(text)) and (found[1] == command or _is_function(found[1])):
        text = text[found.end() :]
    if isinstance(error, MemoryError):
        return f"{text.partition('; try ')[0]}; try {_less(asked)}"

    def option(found: re.Match) -> str:
        name, _, value = found.groups()
        return found[0] if name not in options else options[name] if value == "True" else f"{options[name]} {value}"

    return ARGUMENT.sub(option, text)


def _less(asked: Any) -> str:
    """What takes less memory."""
    options = [f"--{name.replace('_', '-')}" for name in _names(asked) if name.split(".")[-1] in SMALLER]
    smaller = [f"a smaller {', '.join(options)}"] if options else []
    fewer = ["fewer examples in --data"] if getattr(asked, "data", None) is not None else []
    return " or ".join([*smaller, *fewer, "the memory of the host (JAX_PLATFORMS=cpu)"])


def _names(asked: Any) -> list[str]:
    """Options as the command line has them, `training.steps`."""
    if asked is None:
        return []
    names = []
    for field in dataclasses.fields(asked):
        value = getattr(asked, field.name)
        inner = [f"{field.name}.{name}" for name in _names(value)] if dataclasses.is_dataclass(value) else []
        names += inner or [field.name]
    return names


def _is_function(name: str) -> bool:
    """Whether the library has a function or method of this name: a folder may be called like nothing of it."""
    import dwalign

    parts = (getattr(dwalign, part) for part in dir(dwalign))
    return any(callable(getattr(one, name, None)) for one in (dwalign, *parts) if isinstance(one, types.ModuleType))
