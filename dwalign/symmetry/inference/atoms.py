"""Atoms: what a dimension is made of, found out step by step.

Every dimension of every value is one atom. An atom is a leaf, or it has turned out to be an ordered product of atoms
(a reshape took it apart) or an ordered sum (a split did). Two atoms that a program combines position by position are
one and the same: `Atoms.unify`. What order-dependent operations see is pinned: its positions may not be exchanged.
Refinements go into all values that share the atom, earlier ones too.

A dimension along which a value is the same everywhere, such as those of a mask of ones, has no units to exchange: it is
uniform, and ties nothing that it meets. The result of `unify` tells what is left of two dimensions that met.
"""

import functools
import itertools
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
    """One dimension, or a factor or part of one. Made by `Atoms` only; compare by identity of `Atoms.find`."""

    __slots__ = ("children", "kind", "link", "reason", "size")

    def __init__(self, size: int):
        self.size = int(size)
        self.link: Atom | None = None
        self.kind = "leaf"
        self.children: tuple[Atom, ...] = ()
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


def fresh(size: int, reason: Reason | None = None) -> Atom:
    """A new leaf, pinned if there is a reason."""
    atom = Atom(size)
    atom.reason = reason
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
    return all(leaf.reason is not None for leaf in leaves(atom))


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


def factors(atom: Atom) -> list[Atom]:
    """The atom as a product, nested products taken apart."""
    atom = find(atom)
    if atom.kind != "product":
        return [atom]
    return [factor for child in atom.children for factor in factors(child)]


def parts(atom: Atom) -> list[Atom]:
    """The atom as a sum, nested sums taken apart; a product whose first factor is a sum is one too."""
    atom = find(atom)
    if atom.kind == "sum":
        return [part for child in atom.children for part in parts(child)]
    if atom.kind == "product":
        first, *rest = factors(atom)
        if len(parts(first)) > 1:
            return [product([part, *rest]) if part.size > 1 else product(rest) for part in parts(first)]
    return [atom]


def split_product(atom: Atom, tail: int) -> tuple[Atom, Atom]:
    """Take the atom apart into a leading factor and one of size `tail`; `Mismatch` where its structure forbids it."""
    atom = find(atom)
    if atom.size % tail:
        raise Mismatch
    head = atom.size // tail
    if is_uniform(atom):
        return fresh(head, UNIFORM), fresh(tail, UNIFORM)
    if atom.kind == "leaf":
        atom.kind, atom.children = "product", (fresh(head, atom.reason), fresh(tail, atom.reason))
        return atom.children[0], atom.children[1]
    if atom.kind == "product":
        heads, tails = divide(factors(atom), tail)
        return product(heads), product(tails)
    pieces = [divide(factors(part), tail) for part in parts(atom)]
    last = functools.reduce(unify, [product(tails) for _, tails in pieces])
    return concatenation([product(heads) if heads else fresh(1, _SINGLE) for heads, _ in pieces]), last


_SINGLE = Reason("a single position")


def divide(atoms: list[Atom], tail: int) -> tuple[list[Atom], list[Atom]]:
    """Divide a product into leading factors and trailing ones of total size `tail`."""
    rest, taken, need = list(atoms), [], tail
    while need > 1:
        if not rest:
            raise Mismatch
        last = find(rest.pop())
        if last.kind == "product":
            rest += factors(last)
        elif need % last.size == 0:
            taken.append(last)
            need //= last.size
        else:
            head, small = split_product(last, need)
            rest.append(head)
            taken.append(small)
            need = 1
    return rest, taken[::-1]


def split_sum(atom: Atom, sizes: Sequence[int]) -> list[Atom]:
    """Take the atom apart into consecutive pieces; `Mismatch` where its structure forbids it."""
    atom = find(atom)
    if len(sizes) == 1:
        return [atom]
    if is_uniform(atom):
        return [fresh(size, UNIFORM) for size in sizes]
    if atom.kind == "leaf":
        atom.kind, atom.children = "sum", tuple(fresh(size, atom.reason) for size in sizes)
        return list(atom.children)
    if atom.kind == "product" and len(parts(atom)) == 1:
        first, *rest = factors(atom)
        tail = math.prod(factor.size for factor in rest)
        if any(size % tail for size in sizes):
            raise Mismatch
        return [product([piece, *rest]) for piece in split_sum(first, [size // tail for size in sizes])]
    out, queue = [], parts(atom)
    for size in sizes:
        taken: list[Atom] = []
        while (have := sum(part.size for part in taken)) < size:
            part = queue.pop(0)
            if part.size > size - have:
                part, *rest = split_sum(part, [size - have, part.size - size + have])
                queue = [*rest, *queue]
            taken.append(part)
        out.append(concatenation(taken))
    return out


def unify(x: Atom, y: Atom) -> Atom:
    """Make both the same, and return it; where their structures contradict one another `Mismatch`.

    What is uniform stays as it is, so that it can meet others elsewhere; only the result knows.
    """
    x, y = find(x), find(y)
    if x.size != y.size:
        raise Mismatch
    if x is y or is_uniform(y):
        return x
    if is_uniform(x):
        return y
    if partly_uniform(x) or partly_uniform(y):
        return _unify_partly_uniform(x, y)
    if y.kind == "leaf":
        x, y = y, x
    if x.kind == "leaf":
        x.link = y
        if x.reason is not None:
            pin(y, x.reason)
        return y
    if x.kind == y.kind == "product":
        left, right = factors(x), factors(y)
        while left and right:
            a, b = find(left.pop()), find(right.pop())
            if a.kind == "product" or b.kind == "product":
                left += factors(a)
                right += factors(b)
            elif a.size == b.size:
                unify(a, b)
            elif a.size > b.size:
                head, small = split_product(a, b.size)
                left += [head, small]
                right.append(b)
            else:
                head, small = split_product(b, a.size)
                right += [head, small]
                left.append(a)
    else:
        borders = sorted({0, *_borders(x), *_borders(y)})
        sizes = [after - before for before, after in itertools.pairwise(borders)]
        for a, b in zip(split_sum(x, sizes), split_sum(y, sizes), strict=True):
            unify(a, b)
    if x.kind == y.kind and find(x) is not find(y):
        find(x).link = find(y)
    return find(y)


def _unify_partly_uniform(x: Atom, y: Atom) -> Atom:
    """As `unify` on copies in which what is uniform is not; what meets nothing there is uniform again."""
    known = [leaf for leaf in (*leaves(x), *leaves(y)) if leaf.reason is not UNIFORM]
    both = unify(opened(x), opened(y))
    met = {leaf for atom in known for leaf in leaves(atom)}
    return _replace(both, lambda leaf: leaf if leaf in met else fresh(leaf.size, UNIFORM))


def opened(atom: Atom) -> Atom:
    """A copy in which what is uniform is not."""
    return _replace(atom, lambda leaf: fresh(leaf.size) if leaf.reason is UNIFORM else leaf)


def _replace(atom: Atom, change: Callable[[Atom], Atom]) -> Atom:
    """The same expression over other leaves; the atom itself where none of them changes."""
    atom = find(atom)
    if atom.kind == "leaf":
        return change(atom)
    children = tuple(_replace(child, change) for child in atom.children)
    if all(new is find(old) for new, old in zip(children, atom.children, strict=True)):
        return atom
    out = Atom(atom.size)
    out.kind, out.children = atom.kind, children
    return out


def _borders(atom: Atom) -> list[int]:
    out, total = [], 0
    for part in parts(atom):
        total += part.size
        out.append(total)
    return out


def regroup(atoms: Sequence[Atom], sizes: Sequence[int]) -> list[Atom]:
    """The product of `atoms` read as dimensions of these sizes, as reshape does; `Mismatch` where that cannot be."""
    rest = list(atoms)
    out = []
    for size in reversed(sizes):
        rest, taken = divide(rest, size)
        out.append(product(taken))
    return out[::-1]
