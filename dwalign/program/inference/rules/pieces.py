"""Primitives that put arrays beside one another or take them apart."""

import functools
import math
from collections.abc import Callable, Sequence

from dwalign.program.inference.atoms import (
    UNIFORM,
    Atom,
    Mismatch,
    concatenation,
    factors,
    fresh,
    is_uniform,
    leaves,
    partly_uniform,
    pinned,
    uniform,
)
from dwalign.program.inference.facts import Dims, Facts
from dwalign.program.inference.families import families
from dwalign.program.inference.rules.registry import rule, shapes
from dwalign.program.inference.structure import beside, pieces, spans, split_product, split_sum


@rule("concatenate")
def concatenate(facts, eqn, ins):
    axis = eqn.params["dimension"]
    # what is empty has no say
    ins = [dims for dims in ins if dims[axis] is None or dims[axis].size]
    out = facts.unify_all([[*dims[:axis], *dims[axis + 1 :]] for dims in ins], eqn)
    joined = _joined(facts, eqn, [dims[axis] or fresh(1, facts.reason(eqn)) for dims in ins])
    if joined is not None and pinned(joined):
        for dims in ins:
            facts.mixed(dims, [axis])
    out.insert(axis, joined)
    return [out]


@rule("stack")
def stack(facts, eqn, ins):
    axis, dims = eqn.params["axis"], facts.unify_all(ins, eqn)
    return [[*dims[:axis], facts.fresh_pinned(len(ins), eqn), *dims[axis:]]]


@rule("unstack")
def unstack(facts, eqn, ins):
    axis = eqn.params["axis"]
    rows = _cut(facts, eqn, ins[0], axis, [1] * len(eqn.outvars))
    return [[atom for k, atom in enumerate(dims) if k != axis] for dims in rows]


def _joined(facts, eqn, pieces: list[Atom]) -> Atom | None:
    if all(pinned(piece) and not partly_uniform(piece) for piece in pieces):
        return facts.fresh_pinned(sum(piece.size for piece in pieces), eqn)
    return concatenation(pieces)


def _cut(facts, eqn, dims: Dims, axis: int, sizes: Sequence[int]) -> list[list[Atom | None]]:
    """The dimensions of consecutive pieces of a value.

    Positions of a dimension that is pinned or does not fit have no more structure, unless others may differ from piece
    to piece.
    """
    if 0 in sizes:
        filled = iter(_cut(facts, eqn, dims, axis, [size for size in sizes if size]))
        empty = [*dims[:axis], uniform(0), *dims[axis + 1 :]]
        return [next(filled) if size else empty for size in sizes]
    atom = dims[axis]
    cut: Sequence[Atom | None] = [None] * len(sizes)
    rows = [list(dims) for _ in sizes]
    if atom is not None and pinned(atom) and not partly_uniform(atom) and not _tells_apart(atom, dims):
        facts.mixed(dims, [axis])
        cut = [facts.fresh_pinned(size, eqn) for size in sizes]
    elif atom is not None:
        try:
            cut = split_sum(atom, sizes)
            rows = [[other and near(other) for other in dims] for near in _beside(atom, sizes)]
            facts.pin([piece for piece in cut if piece.size == 1], eqn, "takes a single position")
            cut = [None if piece.size == 1 else piece for piece in cut]
        except Mismatch:
            facts.ordered(dims, [axis], eqn, "was cut in a way that does not fit")
            cut = [facts.fresh_pinned(size, eqn) for size in sizes]
    return [[*row[:axis], piece, *row[axis + 1 :]] for row, piece in zip(rows, cut, strict=True)]


def _tells_apart(atom: Atom, dims: Dims) -> bool:
    """Whether other dimensions may differ, or do, from position to position of this one."""
    keys = {key for other in dims if other is not None for family in families(other) for key in family.keys}
    return any(leaf.owners or leaf in keys for leaf in leaves(atom))


def _beside(atom: Atom, sizes: Sequence[int]) -> list[Callable[[Atom], Atom]]:
    """For each piece of these sizes what other dimensions are beside it."""
    first, *rest = factors(atom)
    tail = math.prod(factor.size for factor in rest)
    whole = pieces(first)
    taken = [whole for _ in sizes] if any(size % tail for size in sizes) else spans(first, [n // tail for n in sizes])
    return [functools.partial(beside, whole=whole, taken=on) for on in taken]


@rule("split")
def split(facts, eqn, ins):
    return _cut(facts, eqn, ins[0], eqn.params["axis"], eqn.params["sizes"])


@rule("slice")
def static_slice(facts, eqn, ins):
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    return [
        taken(facts, eqn, ins[0], list(zip(starts, stops, eqn.params["strides"] or [1] * len(starts), strict=True)))
    ]


def taken(facts: Facts, eqn, dims: Dims, bounds: Sequence[tuple[int, int, int]]) -> list[Atom | None]:
    """What is left of a value from start to stop, by steps, of each of its dimensions."""
    out = list(dims)
    for k, (start, stop, step) in enumerate(bounds):
        size = 1 if (atom := out[k]) is None else atom.size
        if step != 1 and stop - start > 1:
            out = _every(facts, eqn, out, k, start, -(-(stop - start) // step), step)
        elif (start, stop) != (0, size):
            sizes = [n for n in (start, stop - start, size - stop) if n]
            out = _cut(facts, eqn, out, k, sizes)[1 if start else 0]
    return out


def _every(facts: Facts, eqn, dims: Dims, axis: int, start: int, count: int, step: int) -> list[Atom | None]:
    """One position of every `step`, such as the gates in a kernel where they take turns with what they let through."""
    atom = dims[axis]
    if atom is not None and is_uniform(atom):
        return [*dims[:axis], uniform(count), *dims[axis + 1 :]]
    if atom is not None and start < step and count * step == atom.size and not pinned(atom):
        try:
            both = [*dims[:axis], *split_product(atom, step), *dims[axis + 1 :]]
            sizes = [n for n in (start, 1, step - start - 1) if n]
            one = _cut(facts, eqn, both, axis + 1, sizes)[1 if start else 0]
            return [*one[:axis], one[axis] if count > 1 else None, *one[axis + 2 :]]
        except Mismatch:
            pass
    facts.ordered(dims, [axis], eqn)
    return [*dims[:axis], facts.fresh_pinned(count, eqn), *dims[axis + 1 :]]


@rule("pad")
def pad(facts, eqn, ins):
    """Padding with one value on the outside concatenates uniform positions; within or negative it pins."""
    out: Dims = []
    (shape,) = shapes(eqn.outvars)
    for k, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        atom = ins[0][k]
        if not (low or high or inner):
            out.append(atom)
        elif inner or low < 0 or high < 0:
            facts.ordered(ins[0], [k], eqn)
            out.append(facts.fresh_pinned(shape[k], eqn))
        else:
            middle = atom or fresh(1, facts.reason(eqn))
            ends = fresh(low, UNIFORM), fresh(high, UNIFORM)
            out.append(_joined(facts, eqn, [piece for piece in (ends[0], middle, ends[1]) if piece.size]))
    return [out]
