"""Programs that are compiled for one network, and go with it."""

import functools
from collections.abc import Callable

import jax

from dwalign.files import read_leaf
from dwalign.kept import keep


def compiled(about: int, *, inline: bool = False) -> Callable[[Callable], Callable]:
    """`jax.jit` of a function, the first of whose arguments, so many, are what a program is compiled for.

    A network comes first, or a spec, and keeps the program. JAX holds static arguments, and what trees hold beside
    their leaves, for good, and with a network all that its functions close over: here a program closes over them. An
    equal network finds it again. Weights that lie in files are read.

    Args:
      about: how many arguments can be hashed, and are known when the function is traced.
      inline: as for `jax.jit`.
    """

    def declare(function):
        @keep
        def program(*known):
            *first, form = known
            flat = lambda *leaves: function(*first, *form.unflatten(leaves))
            flat.__name__ = function.__name__
            return jax.jit(flat, inline=inline)

        @functools.wraps(function)
        def run(*args):
            leaves, form = jax.tree.flatten(args[about:])
            return program(*args[:about], form)(*map(read_leaf, leaves))

        return run

    return declare
