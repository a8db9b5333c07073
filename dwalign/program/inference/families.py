"""Blocks of values whose dimensions differ from piece to piece of another, and how their axes are written."""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dwalign.program.inference.atoms import UNIFORM, Atom, concatenation, factors, find, leaves, pinned, product, turns
from dwalign.program.inference.facts import Dims, Facts
from dwalign.program.inference.structure import SINGLE, beside, members, parts, pieces, spans, tie

# Values that are concatenated along many dimensions have a great many blocks; those of more are not looked at.
MOST_BLOCKS = 4096


# what one part of a value carries, and the keys of families that were chosen with it
Choice = tuple[tuple[Atom, ...], frozenset[Atom]]


class Layout(NamedTuple):
    """The dimensions of an array without families, or its pieces along one axis."""

    dims: Dims
    axis: int | None = None
    pieces: tuple["Layout", ...] = ()


class Untold(Exception):
    """A family in a block that lies beside none of its keys, or beside several."""


def settle(facts: Facts, params: Sequence[Dims]) -> None:
    """Tie the members of a family where some value does not tell them apart, or no notation does.

    Members are independent only if every value that carries them lies beside one piece of what they differ over, and no
    primitive mixes these pieces. What is left is exact; sums of pinned positions that no family needs are one again.
    """
    every = [[atom for atom in (*one.dims, *one.loops) if atom is not None] for one in facts.occurrences]
    while True:
        # to tie one may make others, of what was none before
        values = [atoms for atoms in every if any(True for atom in atoms for _ in families(atom))]
        untold = [family for atoms in values for atom in atoms for family in families(atom) if _alike(family)]
        untold += [family for atoms in values for family in _untold(atoms)]
        for atom, other in facts.separated:
            untold += [family for family in families(atom) if set(leaves(other)) & _told_by(family)]
        # how they are written is asked of those that are left
        untold = untold or [family for dims in params for family in _unwritten(dims)]
        if not untold:
            break
        for family in untold:
            tie(family)
    kept = {key for atoms in values for atom in atoms for family in families(atom) for key in members(family)}
    for one in facts.occurrences:
        for dimension in (*one.dims, *one.loops):
            if dimension is not None:
                _close(dimension, kept)


def families(atom: Atom) -> Iterable[Atom]:
    """The families in an expression, outer ones first."""
    atom = find(atom)
    if atom.kind == "family":
        yield atom
    # what is closed still has what it was made of
    for child in atom.children if atom.kind != "leaf" else ():
        yield from families(child)


def blocks(dims: Sequence[Atom]) -> list[list[Atom]]:
    """The leaves of every block, one for each choice of parts; families are what lies beside these.

    Raises `Untold` with the family for which that is not one of its members.
    """
    keys = {key for atom in dims for family in families(atom) for key in members(family)}
    options = [_expand(atom, keys) for atom in dims]
    if math.prod(map(len, options)) > MOST_BLOCKS:
        for family in itertools.chain.from_iterable(map(families, dims)):
            raise Untold(family)
        # each leaf by itself: nothing goes together
        return [[leaf] for atom in dims for leaf in leaves(atom)]
    out: list[list[Atom]] = []
    queue = [_joined(choice) for choice in itertools.product(*options)]
    while queue:
        block, chosen = queue.pop()
        place = next((k for k, atom in enumerate(block) if atom.kind == "family"), None)
        if place is None:
            out.append(list(block))
            continue
        near = [member for key, member in members(block[place]).items() if key in chosen]
        if len(near) != 1:
            raise Untold(block[place])
        for inside, more in _expand(near[0], keys):
            queue.append(((*block[:place], *inside, *block[place + 1 :]), chosen | more))
    return out[::-1]


def layout(dims: Dims) -> Layout:
    """The dimensions of a parameter as sums of products.

    What differs along another dimension is written as pieces of the array, what differs along a factor before it as
    products of their own, what differs along one behind it as products that take turns. Raises `Untold` with a family
    that is none of these.
    """
    for axis, atom in enumerate(dims):
        if atom is None:
            continue
        first, *rest = factors(atom)
        others = [other for k, other in enumerate(dims) if k != axis and other is not None]
        if not any(_over(family, first) for other in others for family in families(other)):
            continue
        out = []
        for part, near in _pieces(first):
            along = product([part, *map(near, rest)])
            out.append(layout([along if k == axis else other and near(other) for k, other in enumerate(dims)]))
        return Layout(dims, axis, tuple(out))
    written = [atom and _written(atom) for atom in dims]
    for family in itertools.chain.from_iterable(families(atom) for atom in written if atom is not None):
        raise Untold(family)
    return Layout(written)


def _written(atom: Atom) -> Atom:
    """An expression in which a sum has taken in the factors around it that differ over it."""
    if not any(True for _ in families(atom)):
        return atom
    found = []
    for part in parts(atom):
        flat = factors(part)
        for k, factor in enumerate(flat):
            around = [m for m, other in enumerate(flat) if any(_over(f, factor) for f in families(other))]
            if around:
                first, last = min(k, *around), max(k, *around)
                before, behind = flat[first:k], flat[k + 1 : last + 1]
                if before and (behind or any(one.size > 1 for one, _ in _pieces(factor))):
                    # turns are of single positions
                    raise Untold(next(f for f in families(product([*before, *behind])) if _over(f, factor)))
                each = [product([*map(near, before), one, *map(near, behind)]) for one, near in _pieces(factor)]
                inside = (turns if before else concatenation)([_written(one) for one in each])
                flat = [*flat[:first], inside, *flat[last + 1 :]]
                flat = factors(_written(product(flat)))
                break
        found.append(product([_written(one) if find(one).kind == "sum" else one for one in flat]))
    return concatenation(found)


def terms(atom: Atom) -> Sequence[Atom]:
    """The products of which an expression that is written is a sum, or which take turns in it."""
    atom = find(atom)
    return atom.children if atom.kind == "turns" else parts(atom)


def _expand(atom: Atom, keys: set[Atom]) -> list[Choice]:
    atom = find(atom)
    if atom.kind in ("leaf", "family"):
        return [((atom,), frozenset())]
    options = [_expand(child, keys) for child in atom.children]
    if atom.kind in ("sum", "turns"):
        for child, found in zip(atom.children, options, strict=True):
            if find(child) in keys:
                found[:] = [(inside, chosen | {find(child)}) for inside, chosen in found]
        return list(dict.fromkeys(itertools.chain.from_iterable(options)))
    return [_joined(choice) for choice in itertools.product(*options)]


def _joined(choices: Iterable[Choice]) -> Choice:
    insides, chosen = zip(*choices, strict=True)
    return tuple(itertools.chain.from_iterable(insides)), frozenset().union(*chosen)


def _pieces(atom: Atom):
    """The parts of a sum, each with what other dimensions are beside it."""
    cut = parts(atom)
    for part, on in zip(cut, spans(atom, [part.size for part in cut]), strict=True):
        yield part, lambda other, on=on: beside(other, pieces(atom), on, create=False)


def _told_by(family: Atom) -> set[Atom]:
    return {leaf for key in members(family) for leaf in leaves(key)}


def _over(family: Atom, atom: Atom) -> bool:
    # a piece alone tells nothing apart: a family beside it should have been one member
    return len(cut := pieces(atom)) > 1 and bool(set(cut) & set(members(family)))


def _alike(family: Atom) -> bool:
    return len({find(member) for member in members(family).values()}) == 1


def _untold(atoms: Sequence[Atom]) -> list[Atom]:
    try:
        blocks(atoms)
    except Untold as found:
        return [found.args[0]]
    return []


def _unwritten(dims: Dims) -> list[Atom]:
    try:
        layout(dims)
    except Untold as found:
        return [found.args[0]]
    return []


def _close(atom: Atom, kept: set[Atom]) -> None:
    atom = find(atom)
    if atom.kind == "sum" and pinned(atom) and not kept & set(pieces(atom)):
        whys = [leaf.reason for leaf in leaves(atom) if leaf.reason not in (None, UNIFORM)]
        # what it was made of stays known: `certify` probes the pieces
        atom.reason, atom.kind = next(iter(whys), SINGLE), "leaf"
    for child in atom.children:
        _close(child, kept)
