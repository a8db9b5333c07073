"""Primitives that pick or replace what is at given positions.

Where these are positions of units (`positions`), such as that of the expert with the largest score, picking from
another dimension says that both number the same units, as a product with the one-hot code would. Any other number gives
the dimension an order.
"""

from collections.abc import Callable, Sequence

import numpy as np

from dwalign.program.inference.atoms import Atom, is_uniform, uniform
from dwalign.program.inference.facts import Dims, Facts, Occurrence
from dwalign.program.inference.positions import columns
from dwalign.program.inference.rules.pieces import taken
from dwalign.program.inference.rules.registry import rule, shapes

INDEXED = "is indexed by a value"


def _picked(facts: Facts, eqn, dims: Dims, at: dict[int, Atom | None], sizes: Sequence[int]) -> dict[int, Atom]:
    """The dimensions of which single entries are taken at positions of units; other uses of positions pin the units."""
    found = {}
    for k, atom in at.items():
        if atom is None:
            continue
        one = dims[k]
        if sizes[k] == 1 and one is not None and (both := facts.unify(one, atom, eqn)) is not None:
            found[k] = both
        else:
            facts.pin([atom], eqn, INDEXED)
    return found


def _taken(facts: Facts, eqn, dims: Dims, at: dict[int, Atom | None], sizes: Sequence[int]) -> dict[int, Atom]:
    """As `_picked`; an index of which nothing is known gives its dimension an order, and nothing that lies beside."""
    found = _picked(facts, eqn, dims, at, sizes)
    for k in at:
        if k not in found and (one := dims[k]) is not None and sizes[k] == 1:
            facts.pin([one], eqn, INDEXED)
            found[k] = one
    return found


def _window(facts: Facts, eqn, atom: Atom | None, size: int) -> Atom | None:
    """What a stretch at some place looks like along its dimension."""
    return uniform(size) if atom is not None and is_uniform(atom) else facts.fresh_pinned(size, eqn)


@rule("dynamic_slice")
def dynamic_slice(facts, eqn, ins):
    kept, bounds = eqn.params["slice_sizes"], []
    for start, size, whole in zip(facts.operands[1:], kept, *shapes(eqn.invars[:1]), strict=True):
        first = facts.known.get(start.number)
        bounds.append((0, whole, 1) if first is None else (at := int(np.clip(first, 0, whole - size)), at + size, 1))
    # where a program fixes the start this is a slice
    dims = taken(facts, eqn, ins[0], bounds)
    source = [stop - start for start, stop, _ in bounds]
    at = {k: columns(facts, operand, 1, eqn)[0] for k, operand in enumerate(facts.operands[1:])}
    picked = _taken(facts, eqn, dims, at, kept)
    moved = [k for k, n in enumerate(source) if kept[k] != n and k not in picked]
    facts.ordered(dims, moved, eqn, INDEXED)
    rest = [atom for k, atom in enumerate(dims) if k not in picked]
    facts.picked(batch=[], entries=list(picked.values()), windows=rest, rows=[])
    return [
        [
            None if k in picked else _window(facts, eqn, atom, kept[k]) if k in moved else atom
            for k, atom in enumerate(dims)
        ]
    ]


@rule("dynamic_update_slice")
def dynamic_update_slice(facts, eqn, ins):
    whole, part = shapes(eqn.invars)[:2]
    at = {k: columns(facts, operand, 1, eqn)[0] for k, operand in enumerate(facts.operands[2:])}
    picked = _picked(facts, eqn, ins[0], at, part)
    moved = [k for k in range(len(whole)) if whole[k] != part[k] and k not in picked]
    for dims in ins[:2]:
        facts.ordered(dims, moved, eqn, INDEXED)
    out = [
        picked[k]
        if k in picked
        else facts.fresh_pinned(size, eqn)
        if k in moved
        else facts.unify(ins[0][k], ins[1][k], eqn)
        for k, size in enumerate(whole)
    ]
    rest = [atom for k, atom in enumerate(out) if k not in picked]
    facts.roles(batch=[], contracted=list(picked.values()), free=(rest, []))
    return [out]


Fixed = tuple[list[tuple[int, int, int]], Sequence[int | None]]


def fixed_slice(facts: Facts, eqn, operands: Sequence[Occurrence]) -> Fixed | None:
    """The slice that indices take which the program fixes, and of which of its dimensions those of the result are."""
    known = [facts.known.get(one.number) for one in operands[1:]]
    return FIXED[eqn.primitive.name](eqn, *known) if eqn.primitive.name in FIXED else None


def _fixed_start(eqn, *starts) -> Fixed | None:
    (whole,), kept = shapes(eqn.invars[:1]), eqn.params["slice_sizes"]
    bounds = []
    for start, size, all_of in zip(starts, kept, whole, strict=True):
        if start is None and size != all_of:
            return None
        at = 0 if start is None else int(np.clip(start, 0, all_of - size))
        bounds.append((at, at + size, 1))
    return bounds, range(len(whole))


def _fixed_rows(eqn, vectors) -> Fixed | None:
    """Index vectors are a single one, or follow one another along one dimension."""
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if vectors is None or not vectors.size or bool(getattr(numbers, "operand_batching_dims", False)):
        return None
    first, *others = (flat := vectors.reshape(-1, vectors.shape[-1])).tolist()
    axis = None
    if others:
        axis = numbers.start_index_map[0]
        in_a_row = (
            flat.shape[1] == 1 and len(flat) == max(vectors.shape[:-1]) and bool(np.all(np.diff(flat[:, 0]) == 1))
        )
        if not in_a_row or sizes[axis] != 1:
            return None
    starts = dict(zip(numbers.start_index_map, first, strict=True))
    stretch = [len(flat) if k == axis else size for k, size in enumerate(sizes)]
    bounds = [(starts.get(k, 0), starts.get(k, 0) + size, 1) for k, size in enumerate(stretch)]
    (whole, table), (shape,) = shapes(eqn.invars), shapes(eqn.outvars)
    if not all(start >= 0 and stop <= size for (start, stop, _), size in zip(bounds, whole, strict=True)):
        return None
    windows = iter(k for k in range(len(whole)) if k not in numbers.collapsed_slice_dims)
    rows = iter(None if size == 1 else axis for size in table[:-1])
    out = [next(windows) if d in numbers.offset_dims else next(rows) for d in range(len(shape))]
    # an axis along which rows run has a single position in each of them
    return bounds, [None if d in numbers.offset_dims and k == axis else k for d, k in enumerate(out)]


FIXED: dict[str, Callable[..., Fixed | None]] = {"dynamic_slice": _fixed_start, "gather": _fixed_rows}


@rule("gather")
def gather(facts, eqn, ins):
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, indices = list(ins[0]), list(ins[1])
    source, table = shapes(eqn.invars)
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    windows = [k for k in range(len(source)) if k not in (*batching, *numbers.collapsed_slice_dims)]
    (shape,) = shapes(eqn.outvars)
    if (fixed := fixed_slice(facts, eqn, facts.operands)) is not None:
        bounds, of = fixed
        operand = taken(facts, eqn, operand, bounds)
        return [[None if k is None else operand[k] for k in of]]
    partners = dict(zip(batching, getattr(numbers, "start_indices_batching_dims", ()), strict=True))
    for k, m in partners.items():
        operand[k] = indices[m] = facts.unify(operand[k], indices[m], eqn)
    at = dict(zip(numbers.start_index_map, columns(facts, facts.operands[1], table[-1], eqn), strict=True))
    picked = _taken(facts, eqn, operand, at, sizes)
    moved = [k for k in range(len(source)) if k not in (*batching, *picked) and sizes[k] != source[k]]
    facts.ordered(operand, moved, eqn, INDEXED)
    # the positions of the last dimension stand for different dimensions of the operand
    facts.ordered(indices, [-1], eqn, "selects positions")
    if picked:
        facts.picked(
            batch=[operand[k] for k in batching],
            entries=list(picked.values()),
            windows=[operand[k] for k in windows if k not in (*picked, *moved)],
            rows=[atom for m, atom in enumerate(indices[:-1]) if m not in partners.values()],
        )
    rows, kept = iter(indices[:-1]), iter(windows)
    out: Dims = []
    for d, size in enumerate(shape):
        if d in numbers.offset_dims:
            k = next(kept)
            out.append(None if k in picked else _window(facts, eqn, operand[k], size) if k in moved else operand[k])
        else:
            out.append(next(rows))
    return [out]


@rule("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def scatter(facts, eqn, ins):
    """The mirror of gather: a product with one-hot codes that is summed over the updates."""
    numbers = eqn.params["dimension_numbers"]
    operand, indices, updates = (list(dims) for dims in ins)
    whole, table, part = shapes(eqn.invars)
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    partners = dict(zip(batching, getattr(numbers, "scatter_indices_batching_dims", ()), strict=True))
    gone = (*numbers.inserted_window_dims, *batching)
    window = dict(zip([k for k in range(len(whole)) if k not in gone], numbers.update_window_dims, strict=True))
    rows = [atom for d, atom in enumerate(updates) if d not in numbers.update_window_dims]
    rows = facts.unify_all([rows, indices[:-1]], eqn)
    for k, m in partners.items():
        operand[k] = rows[m] = facts.unify(operand[k], rows[m], eqn)
    numbered = columns(facts, facts.operands[1], table[-1], eqn)
    at = dict(zip(numbers.scatter_dims_to_operand_dims, numbered, strict=True))
    sizes = [part[window[k]] if k in window else 1 for k in range(len(whole))]
    picked = _picked(facts, eqn, operand, at, sizes)
    moved = [
        k for k, size in enumerate(whole) if k not in (*batching, *picked) and (k not in window or sizes[k] != size)
    ]
    facts.ordered(operand, moved, eqn, INDEXED)
    facts.ordered(updates, [window[k] for k in moved if k in window], eqn, INDEXED)
    facts.ordered(indices, [-1], eqn, "selects positions")
    summed = [atom for m, atom in enumerate(rows) if m not in partners.values()]
    if eqn.primitive.name == "scatter" and not eqn.params["unique_indices"]:
        facts.pin(summed, eqn, "keeps one of several updates")
    out: Dims = list(operand)
    for k, size in enumerate(whole):
        if k in picked:
            out[k] = picked[k]
        elif k in moved:
            out[k] = facts.fresh_pinned(size, eqn)
        elif k in window:
            out[k] = facts.unify(operand[k], updates[window[k]], eqn)
    windows = [out[k] for k in window if k not in (*picked, *moved)]
    batch = [rows[m] for m in partners.values()]
    facts.roles(batch=batch, contracted=summed, free=(list(picked.values()), windows))
    return [out]
