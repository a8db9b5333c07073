"""From the facts about a program to groups of units: which atoms may be permuted, and over which each is batched."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dwalign.program.inference.atoms import Atom, factors, find, fresh, leaves
from dwalign.program.inference.facts import Dims, Facts, Occurrence
from dwalign.program.inference.families import Layout, blocks, layout, settle, terms

# of leaves, those that one part of a value carries; for some also what its index picked from (`picks`)
Block = tuple[Counter, dict[Atom, Counter]]


class Groups(NamedTuple):
    """Attributes:
    names: of free leaves (groups) and of the pinned leaves over which groups are batched.
    batch: for each group the leaves over which it is batched, outer ones first.
    merged: pairs of neighbouring leaves that are never told apart, with the leaf that stands for both.
    layouts: of the parameters.
    """

    names: dict[Atom, str]
    batch: dict[Atom, tuple[Atom, ...]]
    merged: dict[tuple[Atom, Atom], Atom]
    layouts: list[Layout]


def find_groups(facts: Facts, params: Sequence[Dims]) -> Groups:
    """The groups, named `h0`, `h1`, ... in the order in which the program computes them."""
    settle(facts, params)
    layouts = [layout(dims) for dims in params]
    # everywhere below dictionaries take the place of sets: the same program has the same groups in every process
    carried = dict.fromkeys(leaf for dims in params for atom in dims if atom is not None for leaf in leaves(atom))
    free = {leaf: None for leaf in carried if leaf.reason is None and leaf.size > 1}
    found = [block for one in facts.occurrences for block in _blocks(one, free)]
    together = _together(found, free, carried, facts.separated)
    merged = _merge(layouts, free, together)
    order = {leaf: k for k, leaf in enumerate(_first_computed(facts))}
    for pair, whole in merged.items():
        order[whole] = min(order[leaf] for leaf in pair)
    # positions that are fixed come before all groups; those of masks are in no value
    rank = {leaf: (leaf in free, order.get(leaf, 0)) for leaf in (*carried, *free)}
    batch = _without_circles({leaf: together[leaf] for leaf in sorted(free, key=rank.__getitem__)}, rank)
    names = {leaf: f"h{k}" for k, leaf in enumerate(batch)}
    outer = dict.fromkeys(leaf for group in names for leaf in batch[group] if leaf not in free)
    names |= {leaf: f"f{k}" for k, leaf in enumerate(outer)}
    return Groups(names, batch, merged, layouts)


def _blocks(one: Occurrence, free: dict[Atom, None]) -> list[Block]:
    atoms = [atom for atom in (*one.dims, *one.loops) if atom is not None]
    if not any(leaf in free for atom in atoms for leaf in leaves(atom)):
        return []
    picked = _picked(one)
    return [(Counter(block), picked) for block in blocks(atoms)]


def _picked(one: Occurrence) -> dict[Atom, Counter]:
    """For leaves along which the units are those of a picked position, how often they are beside what it is one of.

    Twice is never: along two dimensions they may be those of two positions.
    """
    if not one.choices:
        return {}
    each: dict[Atom, list[set]] = {}
    for axis, atom in enumerate(one.dims):
        by = {(choice.number, choice.along, choice.source) for choice in one.choices if choice.axis == axis}
        for leaf in leaves(atom) if atom is not None else ():
            each.setdefault(leaf, []).append(by)
    out = {}
    for leaf, found in each.items():
        by = set().union(*found)
        # along two dimensions units may go by two positions
        times = 1 if all(one == by for one in found) else 2
        out[leaf] = Counter([source for *_, picked in by for source in leaves(picked)] * times)
    return out


def _together(found: list[Block], free, carried, separated) -> dict[Atom, dict[Atom, None]]:
    """For each free leaf those that occur once wherever it occurs."""
    together: dict[Atom, dict[Atom, None]] = {}
    for block, picked in found:
        always = {leaf: None for leaf, count in block.items() if count == 1 and leaf.size > 1}
        for leaf in block:
            if leaf in free:
                once = always
                if leaf in picked:
                    counts = block + picked[leaf]
                    once = {other: None for other, count in counts.items() if count == 1 and other.size > 1}
                before = together.get(leaf, once)
                together[leaf] = {other: None for other in before if other in once and other is not leaf}
    for one, two in separated:
        apart = set(leaves(two))
        for leaf in leaves(one):
            if leaf in together:
                together[leaf] = {other: None for other in together[leaf] if other not in apart}
    return {leaf: {h: None for h in others if h in carried} for leaf, others in together.items()}


def _products(one: Layout):
    """The products in which an array is written."""

    def inside(atom):
        for part in terms(atom):
            flat = [find(factor) for factor in factors(part)]
            yield flat
            for factor in flat:
                if factor.kind in ("sum", "turns"):
                    yield from inside(factor)

    for piece in one.pieces:
        yield from _products(piece)
    if not one.pieces:
        for atom in one.dims:
            if atom is not None:
                yield from inside(atom)


def _merge(layouts: list[Layout], free: dict[Atom, None], together) -> dict[tuple[Atom, Atom], Atom]:
    """Neighbours that are never told apart are one: a dimension that was only divided and put together again."""
    merged: dict[tuple[Atom, Atom], Atom] = {}
    products = [product for one in layouts for product in _products(one)]
    changed = True
    while changed:
        changed = False
        counts: Counter = Counter()
        pairs: Counter = Counter()
        products = [replace_merged(product, merged) for product in products]
        for product in products:
            counts.update(product)
            pairs.update(itertools.pairwise(product))
        for (x, y), count in pairs.items():
            if (
                x in free
                and y in free
                and x in together[y]
                and y in together[x]
                and set(together[x]) - {y} == set(together[y]) - {x}
                and counts[x] == counts[y] == count
            ):
                whole = fresh(x.size * y.size)
                merged[x, y] = whole
                del free[x], free[y]
                free[whole] = None
                together[whole] = {h: None for h in together[x] if h is not y}
                for leaf, others in together.items():
                    if x in others or y in others:
                        together[leaf] = {h: None for h in others if h not in (x, y)} | {whole: None}
                changed = True
    return merged


def replace_merged(found: Sequence[Atom], merged: dict[tuple[Atom, Atom], Atom]) -> list[Atom]:
    """A product of leaves with the merged pairs replaced."""
    out: list[Atom] = []
    for leaf in found:
        out.append(leaf)
        while len(out) > 1 and (whole := merged.get((out[-2], out[-1]))) is not None:
            out[-2:] = [whole]
    return out


def _first_computed(facts: Facts) -> list[Atom]:
    computed = (one for one in facts.occurrences if one.place is not None and one.data)
    found = [leaf for one in computed for atom in one.dims if atom is not None for leaf in leaves(atom)]
    others = [leaf for one in facts.occurrences for atom in one.dims if atom is not None for leaf in leaves(atom)]
    return list(dict.fromkeys([*found, *others]))


def _without_circles(together, rank) -> dict[Atom, tuple[Atom, ...]]:
    """Of two groups that always occur together the later is batched over the earlier; batching is transitive."""
    batch = {
        leaf: [h for h in others if leaf not in together.get(h, ()) or rank[h] < rank[leaf]]
        for leaf, others in together.items()
    }
    changed = True
    while changed:
        changed = False
        for leaf, others in batch.items():
            kept = [h for h in others if set(batch.get(h, ())) <= set(others)]
            changed |= len(kept) < len(others)
            batch[leaf] = kept
    return {leaf: tuple(sorted(others, key=rank.__getitem__)) for leaf, others in batch.items()}
