"""Where along a dimension each of its parts lies, and what a cut leaves of them."""

from collections.abc import Mapping

import numpy as np

from dwalign.program.inference.atoms import Atom, find, leaves
from dwalign.program.inference.facts import Occurrence
from dwalign.program.inference.kinds.unknowns import Slot, Unknowns


def within(u: Unknowns, one: Occurrence, bound: Mapping[int, slice]) -> list[list[Slot]]:
    """Of every dimension the places of which something is left, and beside what is left of others."""
    left = [
        [(leaf, bool(on[bound.get(d, slice(None))].any())) for leaf, on in ([] if atom is None else positions(atom))]
        for d, atom in enumerate(one.dims)
    ]
    gone = {leaf for along in left for leaf, kept in along if not kept}
    gone -= {leaf for along in left for leaf, kept in along if kept}
    out = []
    for atom, along, slots in zip(one.dims, left, u.slots(one), strict=True):
        beside = [] if atom is None else _kept_beside(atom, gone)
        kept = [inside and near for (leaf, inside), near in zip(along, beside, strict=True) if u.groups.get(leaf)]
        out.append([slot for slot, stays in zip(slots, kept, strict=True) if stays])
    return out


def positions(atom: Atom) -> list[tuple[Atom, np.ndarray]]:
    """The leaves of a dimension, and for each whether it is at a position."""
    atom, at, out = find(atom), 0, []
    if atom.kind == "leaf":
        return [(atom, np.ones(atom.size, bool))]
    for k, child in enumerate(atom.children):
        for leaf, on in positions(child):
            if atom.kind == "product":
                on = np.tile(np.repeat(on, atom.size // (at or 1) // child.size), at or 1)
            elif atom.kind == "sum":
                on = np.pad(on, (at, atom.size - at - child.size))
            elif atom.kind == "turns":
                on, own = np.zeros(atom.size, bool), on
                on[k :: len(atom.children)] = own
            out.append((leaf, on))
        at = (at or 1) * child.size if atom.kind == "product" else at + child.size
    return out


def _kept_beside(atom: Atom, gone: set[Atom]) -> list[bool]:
    """Whether each leaf of a dimension lies beside more than what is gone."""
    atom = find(atom)
    if atom.kind == "leaf":
        return [True]
    # of a family each member lies beside a key, other parts beside everything
    lost = [gone.issuperset(leaves(key)) for key in atom.keys] or [False] * len(atom.children)
    pairs = zip(lost, atom.children, strict=True)
    return [kept and not no for no, child in pairs for kept in _kept_beside(child, gone)]
