"""Taking atoms apart and making them the same.

A dimension has as much structure as the program has used so far: a reshape divides a leaf into a product, a cut makes
it a sum, and two dimensions that meet get the structure of both.
"""

import functools
import itertools
import math
from collections.abc import Sequence

from dwalign.program.inference.atoms import (
    UNIFORM,
    Atom,
    Mismatch,
    Reason,
    concatenation,
    factors,
    find,
    fresh,
    is_uniform,
    leaves,
    opened,
    partly_uniform,
    pin,
    product,
    replace_leaves,
)


def parts(atom: Atom) -> list[Atom]:
    """The atom as a sum, nested sums taken apart; a product whose first factor is a sum is one too."""
    atom = find(atom)
    if atom.kind == "sum":
        return [part for child in atom.children for part in parts(child)]
    if atom.kind == "product":
        first, *rest = factors(atom)
        if len(terms := parts(first)) > 1:
            return _distribute(first, terms, rest, create=False)
    return [atom]


def pieces(atom: Atom) -> list[Atom]:
    """What a dimension was cut into."""
    atom = find(atom)
    return [piece for child in atom.children for piece in pieces(child)] if atom.kind == "sum" else [atom]


def spans(atom: Atom, sizes: Sequence[int]) -> list[list[Atom]]:
    """For consecutive stretches of a dimension the pieces that they lie on."""
    border, placed = 0, []
    for piece in pieces(atom):
        placed.append((piece, border, border + piece.size))
        border += piece.size
    ends = itertools.pairwise(itertools.accumulate(sizes, initial=0))
    return [[piece for piece, low, high in placed if low < stop and high > start] for start, stop in ends]


def members(family: Atom) -> dict[Atom, Atom]:
    """Key to member. Keys that were cut since have a family for a member, which is merged into this one.

    Where two keys have become the same, so have their members.
    """
    out: dict[Atom, Atom] = {}
    for key, child in zip(family.keys, family.children, strict=True):
        for piece in pieces(key):
            member = beside(child, pieces(key), [piece])
            if piece in out:
                merge(out[piece], member)
            out[piece] = find(member)
    family.keys, family.children = tuple(out), tuple(out.values())
    return out


def beside(atom: Atom, whole: Sequence[Atom], taken: Sequence[Atom], *, create: bool = True) -> Atom:
    """What a dimension is beside some of the pieces into which another one of the same value was cut.

    Only what parameters carry nowhere but beside all these pieces can differ from piece to piece; with `create` it
    becomes a family. Whether all other values agree is seen at the end (`families.settle`).
    """
    atom = find(atom)
    if len(whole) == len(taken) or atom in whole:
        return atom
    if atom.kind in ("product", "sum"):
        children = [beside(child, whole, taken, create=create) for child in atom.children]
        return product(children) if atom.kind == "product" else concatenation(children)
    if create and atom.kind == "leaf" and atom.reason is None and atom.owners and atom.size > 1:
        owners = [leaf.owners for piece in whole for leaf in leaves(piece)]
        if all(atom.owners & other == atom.owners for other in owners):
            atom.kind, atom.keys = "family", tuple(whole)
            atom.children = tuple(fresh(atom.size, None, atom.owners) for _ in whole)
    if atom.kind != "family":
        return atom
    found = members(atom)
    return family({piece: found[piece] for piece in taken}) if set(taken) <= set(found) else atom


def family(found: dict[Atom, Atom]) -> Atom:
    """The atom that is `found[piece]` beside each piece of another dimension."""
    members = [find(member) for member in found.values()]
    if len(set(members)) == 1:
        return members[0]
    out = Atom(members[0].size)
    out.kind, out.keys, out.children = "family", tuple(found), tuple(members)
    return out


def tie(atom: Atom) -> None:
    """All members of a family are one after all."""
    atom = find(atom)
    if atom.kind == "family":
        first, *others = atom.children
        atom.kind, atom.link, atom.keys, atom.children = "leaf", find(first), (), ()
        for other in others:
            merge(first, other)


def merge(x: Atom, y: Atom) -> None:
    """`unify`; what is divided in two ways is pinned."""
    try:
        unify(x, y)
    except Mismatch:
        for atom in (x, y):
            pin(atom, _DIVIDED)


_DIVIDED = Reason("dimensions that are divided differently and lie side by side")


def _distribute(first: Atom, terms: Sequence[Atom], rest: Sequence[Atom], *, create: bool) -> list[Atom]:
    """The product of a sum and `rest` as a sum of products."""
    whole, taken = pieces(first), spans(first, [term.size for term in terms])
    out = []
    for term, on in zip(terms, taken, strict=True):
        others = [beside(factor, whole, on, create=create) for factor in rest]
        out.append(product([term, *others]) if term.size > 1 else product(others))
    return out


def split_product(atom: Atom, tail: int) -> tuple[Atom, Atom]:
    """Take the atom apart into a leading factor and one of size `tail`; `Mismatch` where its structure forbids it."""
    atom = find(atom)
    if atom.size % tail:
        raise Mismatch
    head = atom.size // tail
    if is_uniform(atom):
        return fresh(head, UNIFORM), fresh(tail, UNIFORM)
    if atom.kind == "leaf":
        both = fresh(head, atom.reason, atom.owners), fresh(tail, atom.reason, atom.owners)
        atom.kind, atom.children = "product", both
        return both
    if atom.kind == "family":
        split = {key: split_product(member, tail) for key, member in members(atom).items()}
        head_atom, tail_atom = (family({key: both[side] for key, both in split.items()}) for side in (0, 1))
        atom.kind, atom.keys, atom.children = "product", (), (head_atom, tail_atom)
        return head_atom, tail_atom
    if atom.kind == "turns":
        raise Mismatch
    if atom.kind == "product":
        heads, tails = divide(factors(atom), tail)
        return product(heads), product(tails)
    divided = [divide(factors(part), tail) for part in parts(atom)]
    heads = [product(heads) if heads else fresh(1, SINGLE) for heads, _ in divided]
    tails = [product(tails) for _, tails in divided]
    # what was put side by side stays what it is beside each piece; where it can be counted, beside each number
    if len({head.size for head in heads}) == 1:
        singles = [fresh(1, SINGLE) for _ in heads]
        first, last = (family(dict(zip(singles, side, strict=True))) for side in (heads, tails))
        return product([concatenation(singles), first]), last
    keys = [(piece, last) for head, last in zip(heads, tails, strict=True) for piece in pieces(head)]
    if len(dict(keys)) < len(keys):
        return concatenation(heads), functools.reduce(unify, tails)
    return concatenation(heads), family(dict(keys))


SINGLE = Reason("a single position")


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
        atom.kind, atom.children = "sum", tuple(fresh(size, atom.reason, atom.owners) for size in sizes)
        return list(atom.children)
    if atom.kind == "family":
        split = {key: split_sum(member, sizes) for key, member in members(atom).items()}
        atom.children = tuple(family({key: cut[k] for key, cut in split.items()}) for k in range(len(sizes)))
        atom.kind, atom.keys = "sum", ()
        return list(atom.children)
    if atom.kind == "turns":
        raise Mismatch
    if atom.kind == "product":
        first, *rest = factors(atom)
        tail = math.prod(factor.size for factor in rest)
        if all(size % tail == 0 for size in sizes):
            terms = split_sum(first, [size // tail for size in sizes])
            return _distribute(first, terms, rest, create=True)
        if len(parts(atom)) == 1:
            raise Mismatch
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
        if y.kind == "family" and x in leaves(y):
            # such as all three of queries, keys and values and the queries alone
            tie(y)
            return unify(x, y)
        x.link = y
        if x.reason is not None:
            pin(y, x.reason)
        for leaf in leaves(y):
            leaf.owners |= x.owners
        return y
    if x.kind == y.kind == "family":
        return _unify_families(x, y)
    if "turns" in (x.kind, y.kind):
        return _unify_turns(x, y)
    for one, other in ((x, y), (y, x)):
        if one.kind == "family" and other.kind == "product":
            split_product(one, factors(other)[-1].size)
        elif one.kind == "family":
            split_sum(one, [part.size for part in parts(other)])
    if x.kind == y.kind == "product":
        _unify_products(factors(x), factors(y))
    else:
        borders = sorted({0, *_borders(x), *_borders(y)})
        sizes = [after - before for before, after in itertools.pairwise(borders)]
        for a, b in zip(split_sum(x, sizes), split_sum(y, sizes), strict=True):
            unify(a, b)
    if x.kind == y.kind and find(x) is not find(y):
        find(x).link = find(y)
    return find(y)


def _unify_families(x: Atom, y: Atom) -> Atom:
    first, second = members(x), members(y)
    if set(first) != set(second):
        tie(y)
        return unify(x, y)
    y.kind, y.link, y.keys, y.children = "leaf", x, (), ()
    for key, member in first.items():
        unify(member, second[key])
    return x


def _unify_turns(x: Atom, y: Atom) -> Atom:
    for one in (x, y):
        tie(one)
    x, y = find(x), find(y)
    if "leaf" in (x.kind, y.kind):
        return unify(x, y)
    if (x.kind, len(x.children)) != (y.kind, len(y.children)):
        raise Mismatch
    y.kind, y.link, children, y.children = "leaf", x, y.children, ()
    for one, other in zip(x.children, children, strict=True):
        unify(one, other)
    return x


def _unify_products(left: list[Atom], right: list[Atom]) -> None:
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


def _unify_partly_uniform(x: Atom, y: Atom) -> Atom:
    """As `unify` on copies in which what is uniform is not; what meets nothing there is uniform again.

    Beside each part of a sum it may meet something else.
    """
    known = [leaf for leaf in (*leaves(x), *leaves(y)) if leaf.reason is not UNIFORM]
    both = unify(*(concatenation([opened(part) for part in parts(one)]) for one in (x, y)))
    met = {leaf for atom in known for leaf in leaves(atom)}
    return replace_leaves(both, lambda leaf: leaf if leaf in met else fresh(leaf.size, UNIFORM))


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
