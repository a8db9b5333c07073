"""Matching in a gauge: what has a closed form is chosen first, in both networks, and the rest is matched.

Scales are fixed by equal norms, linear maps up to an orthogonal one by balanced factors, signs where gains of norms
tell them (`dwalign.symmetry.gauge`). What a group does to weights is linear, so that the average of two networks in a
gauge is the average in any other.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dwalign.assignment import MATCHED, as_elements, projected
from dwalign.program import Network
from dwalign.symmetry import (
    Alignment,
    Monomial,
    PermutationSpec,
    compose,
    count_networks,
    free_signs,
    gauge,
    inverse,
    is_traced,
    namespace,
    order_of,
    permute,
    take_networks,
)

PyTree = Any
Find = Callable[[PermutationSpec, PyTree, PyTree, Alignment | None], Alignment]


def is_matched(spec: PermutationSpec) -> bool:
    """Whether all groups are of kinds that methods know."""
    return set(spec.kinds.values()) <= set(MATCHED)


def matched(network: Network) -> Network:
    """The same network with groups of the kinds `MATCHED`: with what a gauge leaves open."""
    return network if is_matched(network.spec) else dataclasses.replace(network, spec=network.spec.with_kinds(*MATCHED))


def gauged(network: Network, networks: PyTree) -> tuple[Network, PyTree]:
    """Networks in their gauge, which compute the same, and what is left open between them.

    Aligners are trained and judged on these. The method `deep_align` brings networks into their gauge itself.

    Args:
      network: what they are, with symmetries of any kind.
      networks: stacked, leaves `[n, ...]`; they are moved one by one on the host.

    Returns:
      `matched(network)`, and the networks; the same ones where only orders of units are free.
    """
    spec = network.spec
    if is_matched(spec):
        return network, networks
    each = (take_networks(networks, k) for k in range(count_networks(networks)))
    moved = [permute(spec, one, gauge(spec, one)) for one in each]
    return matched(network), jax.tree.map(lambda *leaves: np.stack(leaves), *moved)


def in_gauge(
    spec: PermutationSpec, a: PyTree, b: PyTree, start: Alignment | None, find: Find, *, narrow: bool = True
) -> Alignment:
    """`find(spec, a, b, start)` for groups of the kinds that are matched, as an alignment of the networks as they are.

    `find` gets both networks in their gauge, and a spec whose groups are of the kinds `MATCHED`. Signs that are fixed
    in both networks are none of its directions; of networks that are traced nobody can tell which these are. With
    `narrow=False` all of them are left, as a method wants that was made before anyone had seen the networks.
    """
    one, two = (gauge(spec, params) for params in (a, b))
    a, b = permute(spec, a, one), permute(spec, b, two)
    traced = is_traced((a, b))
    signed = spec.with_kinds(*MATCHED)
    free = free_signs(signed, a, b) if narrow and not traced else {}
    reduced = signed.with_signs(free)
    back, there = (inverse(spec, element) for element in (one, two))
    if start is not None:
        here = projected(signed, compose(spec, one, compose(spec, dict(start.perms), there)))
        start = start._replace(perms=here | {g: _narrowed(here[g], basis) for g, basis in free.items()})
    found = find(reduced, a, b, start)
    # of some methods the elements are orders, whatever the kinds
    perms = as_elements(reduced, found.perms)
    perms |= {g: _widened(perms[g], basis) for g, basis in free.items()}
    return found._replace(perms=compose(spec, back, compose(spec, perms, two)))


def _narrowed(element: Any, basis: np.ndarray) -> Any:
    """Signs in other directions; those that none of these flips are lost."""
    if not len(basis):
        return order_of(element)
    # there each of them is alone
    alone = [int(np.flatnonzero((basis.sum(0) == 1) & row)[0]) for row in basis]
    return Monomial(element.perm, None, element.sign[..., alone])


def _widened(element: Any, basis: np.ndarray) -> Any:
    """The inverse of `_narrowed`."""
    if not len(basis):
        return element
    xp = namespace(element.sign)
    columns = [element.sign[..., np.flatnonzero(column)].prod(-1) for column in basis.T]
    return Monomial(element.perm, element.scale, xp.stack(columns, -1))
