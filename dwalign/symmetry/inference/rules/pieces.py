"""Primitives that put arrays beside one another or take them apart."""

from collections.abc import Sequence

from dwalign.symmetry.inference.atoms import (
    UNIFORM,
    Atom,
    Mismatch,
    concatenation,
    fresh,
    is_uniform,
    partly_uniform,
    pinned,
    split_sum,
    uniform,
)
from dwalign.symmetry.inference.facts import Dims
from dwalign.symmetry.inference.rules.registry import rule, shapes


@rule("concatenate")
def concatenate(facts, eqn, ins):
    axis = eqn.params["dimension"]
    pieces = [(dims, dims[axis] or fresh(1, facts.reason(eqn))) for dims in ins]
    # what is empty has no say
    pieces = [(dims, piece) for dims, piece in pieces if piece.size]
    out = facts.unify_all([[*dims[:axis], *dims[axis + 1 :]] for dims, _ in pieces], eqn)
    for dims, piece in pieces:
        if pinned(piece):
            facts.mixed(dims, [axis])
    out.insert(axis, _joined(facts, eqn, [piece for _, piece in pieces]))
    return [out]


@rule("stack")
def stack(facts, eqn, ins):
    axis, dims = eqn.params["axis"], facts.unify_all(ins, eqn)
    return [[*dims[:axis], facts.fresh_pinned(len(ins), eqn), *dims[axis:]]]


@rule("unstack")
def unstack(facts, eqn, ins):
    axis = eqn.params["axis"]
    facts.ordered(ins[0], [axis], eqn, "is taken apart")
    return [[atom for k, atom in enumerate(ins[0]) if k != axis] for _ in eqn.outvars]


def _joined(facts, eqn, pieces: list[Atom]) -> Atom | None:
    if all(pinned(piece) and not partly_uniform(piece) for piece in pieces):
        return facts.fresh_pinned(sum(piece.size for piece in pieces), eqn)
    return concatenation(pieces)


def _pieces(facts, eqn, atom: Atom, sizes: Sequence[int]) -> list[Atom | None]:
    """Consecutive pieces of a dimension; positions of one that is pinned or does not fit have no more structure."""
    if 0 in sizes:
        filled = iter(_pieces(facts, eqn, atom, [size for size in sizes if size]))
        return [next(filled) if size else uniform(0) for size in sizes]
    if not pinned(atom) or partly_uniform(atom):
        try:
            return [None if piece.size == 1 else piece for piece in split_sum(atom, sizes)]
        except Mismatch:
            facts.pin([atom], eqn, "was cut in a way that does not fit")
    return [facts.fresh_pinned(size, eqn) for size in sizes]


@rule("split")
def split(facts, eqn, ins):
    axis, sizes = eqn.params["axis"], eqn.params["sizes"]
    if ins[0][axis] is not None and pinned(ins[0][axis]):
        facts.mixed(ins[0], [axis])
    pieces = _pieces(facts, eqn, ins[0][axis], sizes) if ins[0][axis] is not None else [None] * len(sizes)
    return [[piece if k == axis else atom for k, atom in enumerate(ins[0])] for piece in pieces]


@rule("slice")
def static_slice(facts, eqn, ins):
    (source,), strides = shapes(eqn.invars), eqn.params["strides"]
    out: Dims = []
    for k, (start, stop) in enumerate(zip(eqn.params["start_indices"], eqn.params["limit_indices"], strict=True)):
        atom, size = ins[0][k], source[k]
        if atom is None or ((start, stop) == (0, size) and (strides is None or strides[k] == 1)):
            out.append(atom)
        elif strides is not None and strides[k] != 1:
            facts.ordered(ins[0], [k], eqn)
            size = -(-(stop - start) // strides[k])
            out.append(uniform(size) if is_uniform(atom) else facts.fresh_pinned(size, eqn))
        else:
            if pinned(atom):
                facts.mixed(ins[0], [k])
            sizes = [n for n in (start, stop - start, size - stop) if n]
            out.append(_pieces(facts, eqn, atom, sizes)[1 if start else 0])
    return [out]


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
