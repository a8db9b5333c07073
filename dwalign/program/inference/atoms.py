"""Atoms: what a dimension is made of, found out step by step.

Every dimension of every value is one atom. An atom is a leaf, or it has turned out to be an ordered product of atoms
(a reshape took it apart), an ordered sum (a split did), atoms that take turns (those of a mask do), or a family: the
units of queries, keys and values that lie side by side along a dimension of three are three dimensions, once that one
is cut. Two atoms that a program combines position by position are one and the same: `unify`. What order-dependent
operations see is pinned: its positions may not be exchanged. Refinements go into all values that share the atom,
earlier ones too.

A dimension along which a value is the same everywhere, such as those of a mask of ones, has no units to exchange: it is
uniform, and ties nothing that it meets. The result of `unify` tells what is left of two dimensions that met.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Reason(NamedTuple):
    """Why something was pinned: the primitive, or in words, and the line of the user's program."""

    cause: str
    where: str = ""

    def __str__(self):
        return f"{self.cause} at {self.where}" if self.where else self.cause


# no reason to pin: nothing changes when the positions are exchanged
UNIFORM = Reason("a value that is the same all along")


class Atom:
    """One dimension, or a factor or part of one; compare by identity of `find`.

    Attributes:
      children: of a product its factors, of a sum its parts, of a family one member beside each of `keys`.
      keys: of a family the pieces of another dimension; each block of an array lies beside one of them.
      owners: the numbers of the parameters that carry a leaf, as the bits of an integer.
    """

    __slots__ = ("children", "keys", "kind", "link", "owners", "reason", "size")

    def __init__(self, size: int):
        self.size = int(size)
        self.link: Atom | None = None
        self.kind = "leaf"
        self.children: tuple[Atom, ...] = ()
        self.keys: tuple[Atom, ...] = ()
        self.owners = 0
        self.reason: Reason | None = None


class Mismatch(Exception):
    """Two views of a dimension that cannot both hold: (3, 4) and (4, 3)."""


def find(atom: Atom) -> Atom:
    """The representative of everything unified with `atom`."""
    while atom.link is not None:
        if atom.link.link is not None:
            atom.link = atom.link.link
        atom = atom.link
    return atom


def leaves(atom: Atom) -> list[Atom]:
    """The leaves of the expression, in order."""
    atom = find(atom)
    if atom.kind == "leaf":
        return [atom]
    return [leaf for child in atom.children for leaf in leaves(child)]


def fresh(size: int, reason: Reason | None = None, owners: int = 0) -> Atom:
    """A new leaf, pinned if there is a reason."""
    atom = Atom(size)
    atom.reason, atom.owners = reason, owners
    return atom


def uniform(size: int) -> Atom | None:
    """A dimension along which a value does not change; empty ones are uniform too."""
    return None if size == 1 else fresh(size, UNIFORM)


def is_uniform(atom: Atom) -> bool:
    atom = find(atom)
    if atom.kind == "leaf":
        return atom.reason is UNIFORM
    return atom.kind == "product" and all(is_uniform(child) for child in atom.children)


def partly_uniform(atom: Atom) -> bool:
    return any(leaf.reason is UNIFORM for leaf in leaves(atom))


def pinned(atom: Atom) -> bool:
    return all(leaf.reason is not None or leaf.size == 1 for leaf in leaves(atom))


def pin(atom: Atom, reason: Reason) -> None:
    """Forbid any exchange of positions; the first reason is kept."""
    for leaf in leaves(atom):
        if leaf.reason is None:
            leaf.reason = reason


def product(atoms: Sequence[Atom]) -> Atom:
    """The atom whose first factor varies slowest."""
    # a factor of one position would make a product of itself
    atoms = [atom for atom in atoms if atom.size != 1] or list(atoms[:1])
    if len(atoms) == 1:
        return find(atoms[0])
    out = Atom(math.prod(atom.size for atom in atoms))
    out.kind, out.children = "product", tuple(atoms)
    return out


def concatenation(atoms: Sequence[Atom]) -> Atom:
    """The atom that holds these one after the other."""
    if len(atoms) == 1:
        return find(atoms[0])
    out = Atom(sum(atom.size for atom in atoms))
    out.kind, out.children = "sum", tuple(atoms)
    return out


def turns(atoms: Sequence[Atom]) -> Atom:
    """The atom in which the positions of these take turns, of the first ones once more where the last is not whole."""
    out = concatenation(atoms)
    out.kind = "turns"
    return out


def factors(atom: Atom) -> list[Atom]:
    """The atom as a product, nested products taken apart."""
    atom = find(atom)
    if atom.kind != "product":
        return [atom]
    return [factor for child in atom.children for factor in factors(child)]


def opened(atom: Atom) -> Atom:
    """A copy in which what is uniform is not."""
    return replace_leaves(atom, lambda leaf: fresh(leaf.size) if leaf.reason is UNIFORM else leaf)


def replace_leaves(atom: Atom, change: Callable[[Atom], Atom]) -> Atom:
    """The same expression over other leaves; the atom itself where none of them changes."""
    atom = find(atom)
    if atom.kind == "leaf":
        return change(atom)
    children = tuple(replace_leaves(child, change) for child in atom.children)
    if all(new is find(old) for new, old in zip(children, atom.children, strict=True)):
        return atom
    out = Atom(atom.size)
    out.kind, out.keys, out.children = atom.kind, atom.keys, children
    return out
