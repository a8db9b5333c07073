"""Tables of rules: for each primitive the function that knows it."""

from collections.abc import Callable
from typing import TypeVar

Rule = TypeVar("Rule", bound=Callable)


def register_in(table: dict[str, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """A decorator that enters a function in the table, under the names of its primitives.

    >>> rules = {}
    >>> half = register_in(rules)("div", "mul sub")(lambda x: x / 2)
    >>> sorted(rules), rules["mul"](4)
    (['div', 'mul', 'sub'], 2.0)
    """

    def under(*names):
        def register(function):
            table.update(dict.fromkeys(" ".join(names).split(), function))
            return function

        return register

    return under
