"""Whole numbers that are positions of units: the expert with the largest score, the entry of a codebook nearest by.

When units change places so do their positions, and what is looked up there is the same. Such values are followed
through all that keeps them what they are, and through what undoes the numbering: comparison with the positions of
another dimension (a one-hot code), gathering and scattering (`rules.indexing`). All else counts with them, which gives
the units an order: they are pinned.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dwalign.program.inference.atoms import Atom, factors, find, fresh, leaves, partly_uniform, pinned, product
from dwalign.program.inference.distinct import EVER, ZERO, equal
from dwalign.program.inference.facts import Dims, Facts, Largest, Occurrence, Positions
from dwalign.program.inference.known import numbers
from dwalign.program.inference.tables import register_in

Follow = Callable[..., list[Positions | None]]
FOLLOW: dict[str, Follow] = {}
follow = register_in(FOLLOW)


def numbered(facts: Facts, eqn, operands: Sequence[Occurrence], outs: Sequence[Dims]) -> list[Positions | None]:
    """What the results of an equation number; what an equation counts with is pinned."""
    if eqn.primitive.name in FOLLOW:
        return FOLLOW[eqn.primitive.name](facts, eqn, operands, outs)
    count(facts, eqn, operands)
    return [None] * len(outs)


def count(facts: Facts, eqn, operands: Sequence[Occurrence]) -> None:
    """The operands are used as numbers."""
    for operand in operands:
        if operand.positions is not None and operand.positions.kind != "never":
            why = f"counts with positions from {operand.positions.cause}"
            facts.pin(operand.positions.atoms, eqn, why)


def again(one: Occurrence) -> Occurrence:
    """The positions of a dimension themselves belong to no units: each use has its own."""
    old = one.positions.atoms[0] if one.positions is not None and one.positions.kind == "own" else None
    if one.positions is None or old is None:
        return one
    new = fresh(old.size)
    dims = [new if atom is not None and find(atom) is find(old) else atom for atom in one.dims]
    return one._replace(dims=dims, positions=one.positions._replace(atoms=(new,)))


def columns(facts: Facts, one: Occurrence, number: int, eqn) -> list[Atom | None]:
    """The dimensions of which the entries of index vectors of this length are positions, None for other numbers."""
    positions = one.positions
    if positions is None or positions.kind == "never":
        return [None] * number
    if positions.kind == "columns":
        return list(positions.atoms)
    last = one.dims[-1] if one.dims else None
    atoms = [*(leaf for atom in positions.atoms if atom is not None for leaf in leaves(atom))]
    if positions.kind in ("moved", "rows") or (last is not None and set(leaves(last)) & set(atoms)):
        count(facts, eqn, [one])
        return [None] * number
    return [positions.atoms[0]] * number


def _whole(one: Occurrence) -> bool:
    return one.positions is not None and one.positions.kind in ("at", "own", "each")


def _literal(var) -> complex | None:
    return var.val if isinstance(var, Literal) and np.ndim(var.val) == 0 else None


@follow("iota")
def own(facts, eqn, operands, outs):
    atom = outs[0][eqn.params["dimension"]]
    if atom is None or pinned(atom):
        return [None]
    return [Positions((atom,), "own", "iota")]


def _largest(facts, eqn, one: Occurrence, axis: int, ties: Largest | None = None) -> Positions | None:
    """The positions of the largest entries, which are `ties`, as long as these are the only ones of their values.

    Those that are zero may be any of several where it is seen what is done with them.
    """
    atom = one.dims[axis]
    if atom is None or pinned(atom):
        return None
    name, units = eqn.primitive.name, leaves(atom)
    apart = len(set(units)) == len(units) and not partly_uniform(atom)
    # those that differ in one factor alone
    often = max(equal(facts, one, factor) for factor in factors(atom)) if apart else EVER
    tied = ties if often == ZERO else None
    return Positions((atom,), "at" if tied or often < ZERO else "moved", name, ties=tied)


@follow("argmax", "argmin")
def argument(facts, eqn, operands, outs):
    (axis,) = eqn.params["axes"]
    count(facts, eqn, operands)
    return [_largest(facts, eqn, operands[0], axis)]


@follow("top_k")
def top_k(facts, eqn, operands, outs):
    count(facts, eqn, operands)
    number, axis = numbers(facts, eqn, operands)[0], eqn.params.get("axis", -1) % len(outs[0])
    values = Largest(number, axis, tuple(None if atom is None else k for k, atom in enumerate(outs[0])))
    facts.vanishing[number] = {values}
    return [None, _largest(facts, eqn, operands[0], axis, values)]


def put_back(eqn, operands: Sequence[Occurrence]) -> Atom | None:
    """The units whose positions, each once, are the key of a sort: it puts its operands back beside them."""
    positions, axis = operands[0].positions, eqn.params["dimension"]
    if eqn.params["num_keys"] > 1 or positions is None or positions.kind != "each" or positions.axis != axis:
        return None
    return positions.atoms[0]


@follow("sort")
def sort(facts, eqn, operands, outs):
    """What is sorted by keys of different values keeps what it is."""
    axis, number = eqn.params["dimension"], eqn.params["num_keys"]
    keys, payload = operands[:number], operands[number:]
    if put_back(eqn, operands) is not None:
        count(facts, eqn, payload)
        return [operands[0].positions._replace(kind="own", axis=None), *(None for _ in payload)]
    count(facts, eqn, [*keys, *(one for one in payload if one.positions and one.positions.kind == "columns")])
    if payload:
        by = [_largest(facts, eqn, key, axis) for key in keys]
        if not any(one is not None and one.kind == "at" for one in by):
            facts.pin([operand.dims[axis] for operand in operands], eqn, "may meet equal keys")
    return [*(None for _ in keys), *(_sorted(one, keys, axis) for one in payload)]


def _sorted(one: Occurrence, keys: Sequence[Occurrence], axis: int) -> Positions | None:
    positions = one.positions
    if positions is None or positions.kind in ("columns", "never"):
        return None
    along = {atom and find(atom) for atom in (positions.atoms[0], one.dims[axis], keys[0].dims[axis])}
    if positions.kind == "own" and len(along) == 1:
        return positions._replace(kind="each", axis=axis)
    return elsewhere(positions)


def elsewhere(positions: Positions | None) -> Positions | None:
    """The same positions in another value."""
    if positions is None:
        return None
    return positions._replace(kind="at", axis=None) if positions.kind in ("own", "each") else positions


@follow(
    *"""
    broadcast_in_dim convert_element_type copy copy_p dynamic_slice expand_dims gather reshape rev slice squeeze
    stop_gradient transpose
    """.split()
)
def same(facts, eqn, operands, outs):
    """The same numbers at other places; the indices of `gather` and `dynamic_slice` are theirs to follow."""
    one, positions = operands[0], operands[0].positions
    if positions is None:
        return [None] * len(outs)
    if positions.kind != "never" and not _holds(eqn.outvars[0].aval.dtype, positions):
        count(facts, eqn, [one])
        return [None] * len(outs)
    if positions.kind == "columns" and not _keeps_columns(eqn):
        count(facts, eqn, [one])
        return [None] * len(outs)
    if positions.kind == "own":
        (atom,) = positions.atoms
        alone = [sum(d is not None and find(d) is find(atom) for d in dims) == 1 for dims in outs]
        return [positions if is_own else elsewhere(positions) for is_own in alone]
    if positions.kind == "each" and eqn.primitive.name not in ("convert_element_type", "copy", "stop_gradient"):
        return [elsewhere(positions)] * len(outs)
    return [positions] * len(outs)


def _holds(dtype, positions: Positions) -> bool:
    """Whether these are whole numbers large enough for all positions."""
    sizes = [atom.size for atom in positions.atoms if atom is not None]
    return jnp.issubdtype(dtype, jnp.integer) and max(sizes, default=0) - 1 <= jnp.iinfo(dtype).max


def _keeps_columns(eqn) -> bool:
    before, after = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    if eqn.primitive.name == "broadcast_in_dim":
        return after[-1] == before[-1] and eqn.params["broadcast_dimensions"][-1] == len(after) - 1
    elementwise = eqn.primitive.name in ("convert_element_type", "copy", "copy_p", "stop_gradient")
    return elementwise or (eqn.primitive.name == "reshape" and after[-1] == before[-1])


@follow("concatenate")
def concatenate(facts, eqn, operands, outs):
    """Index vectors: each column has what it numbers."""
    if all(one.positions is None or one.positions.kind == "never" for one in operands):
        return [None]
    if eqn.params["dimension"] != len(outs[0]) - 1 or any(_moved(one) for one in operands):
        count(facts, eqn, operands)
        return [None]
    found = [
        atom
        for var, one in zip(eqn.invars, operands, strict=True)
        for atom in columns(facts, one, var.aval.shape[-1], eqn)
    ]
    ties = {one.positions.ties for one in operands if one.positions is not None} - {None}
    if len(ties) > 1:
        count(facts, eqn, operands)
        return [None]
    return [Positions(tuple(found), "columns", "concatenate", ties=ties.pop() if ties else None)]


def _moved(one: Occurrence) -> bool:
    return one.positions is not None and one.positions.kind == "moved"


@follow("lt")
def less(facts, eqn, operands, outs):
    """No position is negative."""
    if _whole(operands[0]) and _literal(eqn.invars[1]) == 0:
        return [operands[0].positions._replace(kind="never")]
    count(facts, eqn, operands)
    return [None]


@follow("mul")
def stride(facts, eqn, operands, outs):
    """Of the rows of a table, whose entries are counted one row after the other."""
    one, other = sorted(operands, key=lambda one: one.number in facts.known)
    times = facts.known.get(other.number)
    if _whole(one) and one.positions.ties is None and times is not None and len(found := np.unique(times)) == 1:
        return [elsewhere(one.positions)._replace(kind="moved", times=int(found[0]))]
    count(facts, eqn, operands)
    return [None]


def _entry(dtype, operands: Sequence[Occurrence]) -> Positions | None:
    """The position in a table of which one operand says the row and the other the column."""
    for one, other in (operands, operands[::-1]):
        row, column = one.positions, other.positions
        if row is None or row.times == 1 or column is None or not _whole(other) or column.ties is not None:
            continue
        atoms = [atom for atom in (*row.atoms, *column.atoms) if atom is not None]
        entry = Positions((product(atoms),), "at", row.cause)
        if atoms[-1].size == row.times and _holds(dtype, entry):
            return entry
    return None


@follow("add", "sub")
def shift(facts, eqn, operands, outs):
    """The entry of a row; or numbers counted from the end, which nobody may ever look at."""
    if eqn.primitive.name == "add" and (entry := _entry(eqn.outvars[0].aval.dtype, operands)) is not None:
        return [entry]
    step = _literal(eqn.invars[1])
    if operands[0].positions is not None and step is not None:
        return [operands[0].positions if step == 0 else operands[0].positions._replace(kind="moved", times=1)]
    count(facts, eqn, operands)
    return [None]


@follow("max", "min", "clamp")
def bound(facts, eqn, operands, outs):
    """Bounds that hold anyway."""
    name = eqn.primitive.name
    one, *others = sorted(operands, key=lambda one: one.number in facts.known)
    if _whole(one) and all(other.number in facts.known for other in others):
        (atom,) = one.positions.atoms
        fixed = [facts.known[other.number] for other in others]
        low = 0 if name == "min" else fixed[0].max()
        high = atom.size if name == "max" else fixed[-1].min()
        if low <= 0 and high >= atom.size - 1:
            return [one.positions]
    count(facts, eqn, operands)
    return [None]


@follow("select_n")
def select(facts, eqn, operands, outs):
    which, *cases = operands
    if which.positions is not None and which.positions.kind == "never":
        return [elsewhere(cases[0].positions)]
    count(facts, eqn, [which])
    return [together(facts, eqn, cases)]


@follow("eq", "ne")
def compare(facts, eqn, operands, outs):
    together(facts, eqn, operands)
    return [None]


def together(facts: Facts, eqn, operands: Sequence[Occurrence]) -> Positions | None:
    """All are positions of the same units, or mere numbers."""
    if not all(_whole(one) for one in operands) or any(
        one.positions and one.positions.ties is not None for one in operands
    ):
        count(facts, eqn, operands)
        return None
    first, *others = (one.positions.atoms[0] for one in operands if one.positions is not None)
    for other in others:
        first = facts.unify(first, other, eqn)
    return Positions((first,), "at", eqn.primitive.name)


@follow("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def scatter(facts, eqn, operands, outs):
    count(facts, eqn, [operands[0], operands[2]])
    return [None]


@follow("dynamic_update_slice")
def update(facts, eqn, operands, outs):
    count(facts, eqn, operands[:2])
    return [None]
