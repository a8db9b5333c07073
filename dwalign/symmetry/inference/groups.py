"""From the facts about a program to groups of units: which atoms may be permuted, and over which each is batched."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dwalign.symmetry.inference.atoms import Atom, Reason, factors, find, fresh, leaves, parts, pin, pinned
from dwalign.symmetry.inference.facts import Dims, Facts

# Values that are concatenated along many dimensions have a great many blocks; beyond so many nothing is batched.
MOST_BLOCKS = 4096
CONCATENATED = Reason("a concatenation inside a product of dimensions")
Block = Counter  # of leaves, those that one part of a value carries


class Groups(NamedTuple):
    """Attributes:
    names: of free leaves (groups) and of the pinned leaves over which groups are batched.
    batch: for each group the leaves over which it is batched, outer ones first.
    merged: pairs of neighbouring leaves that are never told apart, with the leaf that stands for both.
    """

    names: dict[Atom, str]
    batch: dict[Atom, tuple[Atom, ...]]
    merged: dict[tuple[Atom, Atom], Atom]


def find_groups(facts: Facts, params: Sequence[Dims]) -> Groups:
    """The groups, named `h0`, `h1`, ... in the order in which the program computes them."""
    dims = [atom for one in params for atom in one if atom is not None]
    for atom in dims:
        _make_expressible(atom)
    carried = set(itertools.chain.from_iterable(leaves(atom) for atom in dims))
    free = {leaf for leaf in carried if leaf.reason is None and leaf.size > 1}
    blocks = [block for one in facts.occurrences for block in _blocks(one.dims, one.loops, free)]
    together = _together(blocks, free, carried, facts.separated)
    merged = _merge(dims, free, together)
    order = {leaf: k for k, leaf in enumerate(_first_computed(facts, free))}
    order |= {leaf: -1 for leaf in carried - free}
    for pair, whole in merged.items():
        order[whole] = min(order[leaf] for leaf in pair)
    batch = _without_circles({leaf: together[leaf] for leaf in free}, order)
    names = {leaf: f"h{k}" for k, leaf in enumerate(sorted(free, key=order.__getitem__))}
    outer = dict.fromkeys(leaf for group in names for leaf in batch[group] if leaf not in free)
    names |= {leaf: f"f{k}" for k, leaf in enumerate(outer)}
    return Groups(names, batch, merged)


def _make_expressible(atom: Atom) -> None:
    """Pin what cannot be written as a sum of products."""
    for part in parts(atom):
        for factor in factors(part):
            if find(factor).kind == "sum" and not pinned(factor):
                pin(factor, CONCATENATED)


def _expand(atom: Atom) -> list[tuple[Atom, ...]]:
    atom = find(atom)
    if atom.kind == "leaf":
        return [(atom,)]
    options = [_expand(child) for child in atom.children]
    if atom.kind == "sum":
        return list(dict.fromkeys(itertools.chain.from_iterable(options)))
    return [tuple(itertools.chain.from_iterable(choice)) for choice in itertools.product(*options)]


def _blocks(dims: Dims, loops: Iterable[Atom], free: set[Atom]) -> list[Block]:
    atoms = [atom for atom in dims if atom is not None]
    carried = [leaves(atom) for atom in atoms]
    if not any(leaf in free for leaf in itertools.chain.from_iterable(carried)):
        return []
    options = [_expand(atom) for atom in atoms]
    if math.prod(map(len, options)) > MOST_BLOCKS:
        # each leaf by itself: nothing goes together
        return [Counter([leaf]) for leaf in itertools.chain.from_iterable(carried)]
    around = [leaf for loop in loops for leaf in leaves(loop)]
    return [Counter([*itertools.chain.from_iterable(choice), *around]) for choice in itertools.product(*options)]


def _together(blocks: list[Block], free, carried, separated) -> dict[Atom, set[Atom]]:
    """For each free leaf those that occur once wherever it occurs."""
    together: dict[Atom, set[Atom]] = {}
    for block in blocks:
        once = {leaf for leaf, count in block.items() if count == 1 and leaf.size > 1}
        for leaf in block:
            if leaf in free:
                others = once - {leaf}
                together[leaf] = together[leaf] & others if leaf in together else others
    for one, two in separated:
        for leaf in leaves(one):
            if leaf in together:
                together[leaf] -= set(leaves(two))
    return {leaf: others & carried for leaf, others in together.items()}


def _merge(dims: list[Atom], free: set[Atom], together) -> dict[tuple[Atom, Atom], Atom]:
    """Neighbours that are never told apart are one: a dimension that was only divided and put together again."""
    merged: dict[tuple[Atom, Atom], Atom] = {}

    def products():
        for atom in dims:
            for part in parts(atom):
                yield replace_merged(leaves(part), merged)

    changed = True
    while changed:
        changed = False
        counts: Counter = Counter()
        pairs: Counter = Counter()
        for found in products():
            counts.update(found)
            pairs.update(itertools.pairwise(found))
        for (x, y), count in pairs.items():
            if (
                x in free
                and y in free
                and x in together[y]
                and y in together[x]
                and together[x] - {y} == together[y] - {x}
                and counts[x] == counts[y] == count
            ):
                whole = fresh(x.size * y.size)
                merged[x, y] = whole
                free -= {x, y}
                free.add(whole)
                together[whole] = together[x] - {y}
                for others in together.values():
                    if {x, y} & others:
                        others -= {x, y}
                        others.add(whole)
                changed = True
                break
    return merged


def replace_merged(found: Sequence[Atom], merged: dict[tuple[Atom, Atom], Atom]) -> list[Atom]:
    """A product of leaves with the merged pairs replaced."""
    out: list[Atom] = []
    for leaf in found:
        out.append(leaf)
        while len(out) > 1 and (whole := merged.get((out[-2], out[-1]))) is not None:
            out[-2:] = [whole]
    return out


def _first_computed(facts: Facts, free: set[Atom]) -> list[Atom]:
    computed = (one for one in facts.occurrences if one.place is not None and one.data)
    found = [leaf for one in computed for atom in one.dims if atom is not None for leaf in leaves(atom)]
    others = [leaf for one in facts.occurrences for atom in one.dims if atom is not None for leaf in leaves(atom)]
    return list(dict.fromkeys([*found, *others]))


def _without_circles(together: dict[Atom, set[Atom]], order: dict[Atom, int]) -> dict[Atom, tuple[Atom, ...]]:
    """Of two groups that always occur together the later is batched over the earlier; batching is transitive."""
    batch = {
        leaf: {h for h in others if leaf not in together.get(h, ()) or order[h] < order[leaf]}
        for leaf, others in together.items()
    }
    changed = True
    while changed:
        changed = False
        for others in batch.values():
            for h in list(others):
                if not batch.get(h, set()) <= others:
                    others.discard(h)
                    changed = True
    return {leaf: tuple(sorted(others, key=lambda h: (order[h], h.size))) for leaf, others in batch.items()}
