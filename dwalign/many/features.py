"""Features of single networks, computed once for all pairs that these take part in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

PyTree = Any


class Features:
    """A table on the host of those that were asked for last, all of them where there is room.

    Args:
      encode: from stacked networks `[batch, ...]` to their features.
      batch: so many are encoded at once; no more than twice as many are asked for at a time.
      count: of all networks.
      room: bytes of the table, which holds two batches whatever they take.
    """

    def __init__(self, encode: Callable[[PyTree], PyTree], *, batch: int, count: int, room: int):
        self._encode, self._batch, self._count, self._room = encode, batch, count, room
        # of each network that is there, those that were asked for last at the end
        self._rows: dict[int, int] = {}
        self._table: PyTree = None
        self._size = 0

    def add(self, networks: Mapping[int, PyTree]) -> None:
        """Encode those of these networks, by number, that are not there; all of them are there until the next call."""
        self._rows |= {number: self._rows.pop(number) for number in networks if number in self._rows}
        missing = [number for number in networks if number not in self._rows]
        for begin in range(0, len(missing), self._batch):
            some = missing[begin : begin + self._batch]
            # the last one is repeated, so that all batches are one program
            padded = some + some[-1:] * (self._batch - len(some))
            self._keep(some, jax.device_get(self._encode(stacked([networks[number] for number in padded]))))

    def of(self, numbers: Sequence[int]) -> PyTree:
        """The features of these networks, stacked."""
        rows = [self._rows[number] for number in numbers]
        return jax.tree.map(lambda leaf: leaf[rows], self._table)

    def _keep(self, numbers: Sequence[int], features: PyTree) -> None:
        if self._table is None:
            each = sum(leaf[0].nbytes for leaf in jax.tree.leaves(features))
            self._size = min(max(2 * self._batch, self._room // max(each, 1)), self._count)
            self._table = jax.tree.map(lambda leaf: np.empty((self._size, *leaf.shape[1:]), leaf.dtype), features)
        for number in numbers:
            full = len(self._rows) == self._size
            self._rows[number] = self._rows.pop(next(iter(self._rows))) if full else len(self._rows)
        rows = [self._rows[number] for number in numbers]
        for table, leaf in zip(*map(jax.tree.leaves, (self._table, features)), strict=True):
            table[rows] = leaf[: len(rows)]


def stacked(networks: Sequence[PyTree]) -> PyTree:
    """Parameters along a leading axis, NumPy arrays."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
