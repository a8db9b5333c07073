"""Which of several zeros are among the largest, and where that makes no difference.

Units behind a ReLU may all be silent. Of equal ones `top_k` takes the first, which depends on how they are numbered. It
makes none where the zero itself is put back among zeros, or multiplies what was looked up at its place: any finite
number would do there. For that each position has to run along with its own value all the way. Everything else minds
which units were taken, and they are pinned.
"""

from collections.abc import Sequence

from dwalign.program.inference.atoms import Atom, find, is_uniform, leaves
from dwalign.program.inference.distinct import ZEROS
from dwalign.program.inference.facts import Dims, Facts, Largest, Occurrence, Positions
from dwalign.program.inference.marks import marked
from dwalign.program.inference.positions import count, numbered

# what keeps positions as they are, and what makes indices of them
KEEP = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze", "stop_gradient"}
KEEP |= {"transpose"}
NORMALISE = {"add", "concatenate", "lt", "select_n"}
# zero where an operand is
PRODUCTS = {"mul", "dot_general"}


def settled(facts: Facts, eqn, operands: Sequence[Occurrence], outs: Sequence[Dims]) -> list[Positions | None]:
    """As `numbered`: what the results of an equation number, once it is seen what it does where values are zero."""
    if not any(_is_tied(one) for one in operands):
        return numbered(facts, eqn, operands, outs)
    marks, made = marked(facts, eqn, operands)
    name, left, rows = eqn.primitive.name, list(operands), None
    for k, (one, positions) in enumerate((one, one.positions) for one in operands):
        if positions is None or positions.ties is None or not _is_tied(one):
            continue
        along, is_index = _carried(positions.ties, marks[k], made), positions.kind != "rows"
        looked_up = name == "gather" and k == 1 and is_index and operands[0].positions is None
        kept = None
        if along is not None and (looked_up or name in KEEP or (is_index and name in NORMALISE)):
            kept = positions._replace(ties=along)
            if looked_up or not is_index:
                rows, kept = kept._replace(kind="rows", axis=None), None
        elif not (_puts_back if is_index else _multiplies)(facts, eqn, operands, marks, k, positions.ties):
            count(facts, eqn, [one])
        left[k] = one._replace(positions=kept)
    found = numbered(facts, eqn, left, outs)
    return found if rows is None else [rows]


def vanish(facts: Facts, eqn, operands: Sequence[Occurrence], numbers: Sequence[int]) -> None:
    """Note which results, by their numbers, are zero wherever the largest of a value are."""
    name = eqn.primitive.name
    ins = {"div": 1}.get(name, len(operands) if name in ZEROS | PRODUCTS else 0)
    having = [(k, facts.vanishing[one.number]) for k, one in enumerate(operands[:ins]) if one.number in facts.vanishing]
    if having:
        marks, made = marked(facts, eqn, operands)
        carried = {_carried(one, marks[k], made) for k, found in having for one in found}
        facts.vanishing[numbers[0]] = {one for one in carried if one is not None}


def _is_tied(one: Occurrence) -> bool:
    return one.positions is not None and one.positions.ties is not None and one.positions.kind not in ("never", "moved")


def _carried(ties: Largest, before: Dims, made: Sequence[Dims]) -> Largest | None:
    """The axes of a result that run along, as long as all of them do."""
    if len(made) != 1:
        return None
    found = [[] if atom is None else leaves(atom) for atom in made[0]]
    along: list[int | None] = []
    for mark in _beside(ties, before):
        at = [d for d, inside in enumerate(found) if mark in inside]
        if mark is not None and (len(at) != 1 or len(found[at[0]]) != 1 or mark.reason is not None):
            return None
        along.append(at[0] if at else None)
    return ties._replace(along=tuple(along))


def _beside(ties: Largest, marks: Dims) -> list[Atom | None]:
    """The dimensions that run along with those of the largest."""
    beside = [None if axis is None else marks[axis] for axis in ties.along]
    return [None if mark is None else find(mark) for mark in beside]


def _is_zero_beside(facts: Facts, other: Occurrence, marks: Dims, ties: Largest, own: Dims) -> bool:
    """Whether another operand, of these marks, is zero where the values are with which this one runs along."""
    return any(
        one.number == ties.number and _beside(one, marks) == _beside(ties, own)
        for one in facts.vanishing.get(other.number, ())
    )


def _multiplies(facts: Facts, eqn, operands: Sequence[Occurrence], marks: Sequence[Dims], k: int, ties: Largest):
    """Whether what was looked up is multiplied by what is zero where it could be something else."""
    other = 1 - k
    return eqn.primitive.name in PRODUCTS and _is_zero_beside(facts, operands[other], marks[other], ties, marks[k])


def _puts_back(facts: Facts, eqn, operands: Sequence[Occurrence], marks: Sequence[Dims], k: int, ties: Largest):
    """Whether zeros are replaced by the largest of a value, or by what is zero where these are."""
    return (
        k == 1
        and eqn.primitive.name in ("scatter", "scatter-add")
        and operands[0].number in facts.zeros
        and _is_zero_beside(facts, operands[2], marks[2], ties, marks[1])
        and (eqn.primitive.name != "scatter" or _apart(facts, eqn, operands[1], ties))
    )


def _apart(facts: Facts, eqn, index: Occurrence, ties: Largest) -> bool:
    """Whether no two index vectors, each for one of the largest, name the same place: the last would take it."""
    batching = getattr(eqn.params["dimension_numbers"], "scatter_indices_batching_dims", ())
    apart = {*batching, ties.along[ties.axis]}
    for column in filter(_counts, facts.columns.get(index.number, ())):
        apart |= {axis for axis, atom in enumerate(column.dims) if atom is not None and not is_uniform(atom)}
    return all(axis in apart for axis, atom in enumerate(index.dims[:-1]) if atom is not None)


def _counts(one: Occurrence) -> bool:
    """Whether a value numbers the rows that it lies in."""
    while one.origin is not None and one.origin.primitive != "iota":
        name, operands, _ = one.origin
        never = name == "select_n" and operands[0].positions is not None and operands[0].positions.kind == "never"
        if not (never or name in KEEP):
            return False
        one = operands[1 if never else 0]
    return one.origin is not None
