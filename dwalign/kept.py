"""What is kept about something for as long as that is there.

A network may close over gigabytes: what was found out or compiled about it must go when it goes. So it lies with the
network, and no cache beside it holds on to either.
"""

import dataclasses
import functools
import weakref
from collections.abc import Callable, Hashable
from typing import Any


class Kept(dict):
    """Of one thing: functions, as they remember what they found out about it."""

    def __missing__(self, function: Callable) -> Callable:
        self[function] = functools.lru_cache(1024)(function)
        return self[function]


_KEPT: weakref.WeakValueDictionary[Hashable, Kept] = weakref.WeakValueDictionary()


def kept_by(key: Hashable) -> Kept:
    """The same for all that are equal by this key, until the last that holds it is gone; the key holds none of them."""
    return _KEPT.setdefault(key, Kept())


def keep(function: Callable) -> Callable:
    """`functools.lru_cache` of a function, whose results lie with its first argument, in its attribute `kept`.

    >>> class Named:
    ...     def __init__(self, name):
    ...         self.name, self.kept = name, kept_by(name)
    >>> @keep
    ... def shout(named, times):
    ...     print("once")
    ...     return times * named.name.upper()
    >>> one = Named("ab")
    >>> shout(one, 2), shout(one, 2)
    once
    ('ABAB', 'ABAB')
    """

    @functools.wraps(function)
    def find(owner, *about):
        return owner.kept[function](owner, *about)

    return find


def anew(record: Any) -> tuple[type, tuple]:
    """What `__reduce__` of a dataclass gives, for pickle and copy: its fields, and nothing that is kept beside them."""
    return type(record), tuple(getattr(record, field.name) for field in dataclasses.fields(record))
