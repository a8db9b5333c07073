"""Matching in a gauge: what has a closed form is chosen first, in both networks, and the rest is matched.

Scales are fixed by equal norms, linear maps up to an orthogonal one by balanced factors (`dwalign.symmetry.gauge`).
What a group does to weights is linear, so that the average of two networks in a gauge is the average in any other.
"""

from collections.abc import Callable
from typing import Any

from dwalign.assignment import MATCHED, projected
from dwalign.symmetry import Alignment, PermutationSpec, compose, gauge, inverse, permute

PyTree = Any
Find = Callable[[PermutationSpec, PyTree, PyTree, Alignment | None], Alignment]


def is_matched(spec: PermutationSpec) -> bool:
    """Whether all groups are of kinds that methods know."""
    return set(spec.kinds.values()) <= set(MATCHED)


def in_gauge(spec: PermutationSpec, a: PyTree, b: PyTree, start: Alignment | None, find: Find) -> Alignment:
    """`find(spec, a, b, start)` for groups of the kinds that are matched, as an alignment of the networks as they are.

    `find` gets both networks in their gauge, and a spec whose groups are of the kinds `MATCHED`.
    """
    reduced = spec.with_kinds(*MATCHED)
    one, two = (gauge(spec, params) for params in (a, b))
    back, there = (inverse(spec, element) for element in (one, two))
    if start is not None:
        here = compose(spec, one, compose(spec, dict(start.perms), there))
        start = start._replace(perms=projected(reduced, here))
    found = find(reduced, permute(spec, a, one), permute(spec, b, two), start)
    return found._replace(perms=compose(spec, back, compose(spec, found.perms, two)))
