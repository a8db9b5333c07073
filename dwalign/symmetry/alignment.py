"""The result of every matching method."""

from typing import NamedTuple

import jax

from dwalign.shown import brief


class Alignment(NamedTuple):
    """A matching of the units of b to the units of a.

    Attributes:
      perms: for each group indices `[*batch, n]`: `permute(spec, b, perms)` is b in the order of a.
      scores: for each group the matrix `[*batch, n, n]` whose best assignment `perms` is (larger is better), a start
        for methods that refine; None where a method has none.
      history: the method's objective after each iteration, `[iterations]`; None where it has no iterations.

    It is a pytree of arrays, so that methods can be jitted and vmapped.
    """

    perms: dict[str, jax.Array]
    scores: dict[str, jax.Array] | None = None
    history: jax.Array | None = None

    def __repr__(self):
        return f"Alignment(perms={brief(self.perms)}, scores={brief(self.scores)}, history={brief(self.history)})"
