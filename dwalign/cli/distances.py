"""How far two networks are from one another, before alignment and after."""

from typing import Any, NamedTuple

import dwalign


class Distances(NamedTuple):
    """Euclidean, over all weights."""

    before: float
    after: float


def distances(spec: Any, a: Any, b: Any, aligned: Any) -> Distances:
    """Of b, and of b aligned to a, from a: both in the gauge where factors and maps make weights smallest.

    Aligned networks have the factors of a, which may be larger than those of b: as they are they could be further apart
    than they were, though the same units were found in both.
    """
    gauge = dwalign.gauge(spec, a)
    first, after = (dwalign.permute(spec, one, gauge) for one in (a, aligned))
    before = dwalign.canonical(spec, b)
    return Distances(*(float(dwalign.distance(spec, first, one)) for one in (before, after)))
