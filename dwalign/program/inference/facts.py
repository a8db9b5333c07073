"""What the walk over a program finds out, kept in one place."""

import functools
import itertools
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dwalign.program.inference.atoms import Atom, Mismatch, Reason, find, fresh, leaves, pin
from dwalign.program.inference.structure import unify

Dims = Sequence[Atom | None]
Place = tuple[int, ...]
CONSTANT = Reason("a constant of the program that differs from position to position")

# packages that models are written in, and text, which is in none
TRACED_BY = {"", "dwalign", "equinox", "flax", "haiku", "jax", "jaxlib", "keras", "numpy", "opt_einsum"} | {
    "torch",
    "torchax",
}
_STANDARD = sysconfig.get_paths()["stdlib"]
_READERS = tuple(str(Path(__file__).parents[2] / part) for part in ("program", "frontends"))


class Largest(NamedTuple):
    """The values that a `top_k` finds, and the axes of another value that run along with them (`ties`).

    Attributes:
      number: of these values.
      axis: of these values, along which they are sorted.
      along: for each of their axes that of the other value, None for one of size 1.
    """

    number: int
    axis: int
    along: tuple[int | None, ...]


class Positions(NamedTuple):
    """What the entries of an integer value number (`positions`).

    Attributes:
      atoms: the dimension of whose units they are positions; for index vectors one a column, None for other numbers.
      kind: "at" for those of one dimension; "own" for those of a dimension of the value itself, in order; "each" for
        those of one dimension, every one once along `axis`; "columns" for index vectors; "moved" for numbers computed
        from them, harmless until they are used; "never" for a truth value that is false wherever they point; "rows" for
        a value that was looked up at them.
      cause: the primitive that found them.
      ties: where they may be those of any of several zeros, the values that were found there.
      times: what they were multiplied with, for those that are "moved" by nothing else.
    """

    atoms: tuple[Atom | None, ...]
    kind: str
    cause: str
    axis: int | None = None
    ties: Largest | None = None
    times: int = 1


class Choice(NamedTuple):
    """The units along a dimension of a value are those of one position of another, which an index picked (`picks`).

    Attributes:
      axis: of the value, along which the units are.
      source: the dimension that was picked from.
      number: of the index.
      along: for each dimension of the index the axis of the value that runs along with it, None for one of size 1.
    """

    axis: int
    source: Atom
    number: int
    along: tuple[int | None, ...]


class Index(NamedTuple):
    """A column of the index vectors in `value`, or all of `value` for None, that picks from the dimension `source`."""

    source: Atom
    value: "Occurrence"
    column: int | None


class Occurrence(NamedTuple):
    """A value: its dimensions, the scans it is inside of, and where the program computes it.

    `place` is the path of equation numbers and the number of the result; None where it cannot be observed.
    `data` says whether it depends on the inputs of the program. Values of the same `number` are the same.
    """

    dims: Dims
    loops: tuple[Atom, ...]
    place: Place | None
    data: bool
    dtype: Any = None
    positions: Positions | None = None
    origin: "Origin | None" = None
    number: int = -1
    choices: tuple[Choice, ...] = ()


class Origin(NamedTuple):
    """The primitive that computes a value, its operands and its parameters."""

    primitive: str
    operands: Sequence[Occurrence]
    params: Mapping[str, Any] = MappingProxyType({})


def leaves_of(dims: Dims) -> list[Atom]:
    """The leaves of all dimensions."""
    return [leaf for atom in dims if atom is not None for leaf in leaves(atom)]


class Read(NamedTuple):
    """A contraction over `atoms` of the values in `operands`: what a next layer reads."""

    atoms: Sequence[Atom]
    operands: Sequence[Occurrence]


class Step(NamedTuple):
    """Values that are made of others, in the order of the program.

    `name` is the primitive; "link" where a loop or a branch hands a value on as it is. `calls` are the equations
    around it.
    """

    name: str
    ins: Sequence[Occurrence]
    outs: Sequence[Occurrence]
    eqn: Any
    calls: tuple


class Facts:
    """The occurrences of atoms and what forbids treating them independently of one another.

    `operands` are those of the equation at hand, `origins` those of every value that can be observed;
    `calls` are the equations around it;
    `carried` maps what enters a turn of a loop to what leaves it, `endless` are the loops of any number of turns;
    `used` are the dimensions of values with which something is computed;
    `steps` are all equations and what loops and branches hand on;
    `zeros` are the numbers of constants that are zero throughout, `gaps` of those that are zero somewhere, `fills` of
    those that are infinite or no numbers throughout;
    `held` are the numbers of values that are others in another shape, `orders` say by what the positions are sorted,
    `stretches` by what rows are (`stretches`), `vanishing` of the values with which they are zero (`ties`);
    `numbers` are those of the values that are known to be the same when computed again, `copies` for other values,
    by their numbers, the one that all have which are made alike, `indexed` for indices what they pick from and where
    they are computed, `columns` for index vectors the values put side by side, `known` for whole numbers that the
    program fixes these, `scalars` what constants of one number are;
    `often` and `silent` say of values along dimensions what was found in `distinct`.
    """

    def __init__(self) -> None:
        self.occurrences: list[Occurrence] = []
        self.separated: list[tuple[Atom, Atom]] = []
        self.reads: list[Read] = []
        self.unknown: dict[str, Reason] = {}
        self.operands: Sequence[Occurrence] = ()
        self.calls: list = []
        self.used: list[Dims] = []
        self.carried: dict[Place, Occurrence] = {}
        self.endless: list[Place] = []
        self.origins: dict[Place, Origin] = {}
        self.steps: list[Step] = []
        self.zeros: set[int] = set()
        self.gaps: set[int] = set()
        self.fills: set[int] = set()
        self.numbers: dict[Any, int] = {}
        self.copies: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self.orders: dict[int, int] = {}
        self.stretches: dict[int, int] = {}
        self.vanishing: dict[int, set[Largest]] = {}
        self.indexed: dict[int, Index] = {}
        self.columns: dict[int, Sequence[Occurrence]] = {}
        self.known: dict[int, np.ndarray] = {}
        self.scalars: dict[int, float] = {}
        self.often: dict[tuple[int, frozenset[Atom]], int | None] = {}
        self.silent: dict[tuple[int, frozenset[Atom]], bool] = {}
        self._counted = itertools.count()

    def number(self, key: Any = None) -> int:
        """The number of the value that `key` describes in full; one of its own without, or where it cannot be told."""
        try:
            return next(self._counted) if key is None else self.numbers.setdefault(key, next(self._counted))
        except TypeError:  # a parameter of an equation that has no hash
            return next(self._counted)

    def unify(self, x: Atom | None, y: Atom | None, eqn=None) -> Atom | None:
        """Both are the same dimension, which is the result; where their structures forbid that both are pinned."""
        if x is None or y is None:
            return y if x is None else x
        for one, other in ((x, y), (y, x)):
            if eqn is not None and find(one).reason is CONSTANT:
                self.pin([other], eqn, "meets a constant that differs from position to position")
        try:
            return unify(x, y)
        except Mismatch:
            self.pin([x, y], eqn, "combines dimensions that are divided differently")
            return self.fresh_pinned(x.size, eqn)

    def unify_all(self, values: Iterable[Dims], eqn=None) -> list[Atom | None]:
        """Dimension by dimension, for values of one shape up to dimensions of size 1."""
        return [functools.reduce(lambda x, y: self.unify(x, y, eqn), atoms) for atoms in zip(*values, strict=True)]

    def pin(self, atoms: Iterable[Atom | None], eqn, why: str = "") -> None:
        for atom in atoms:
            if atom is not None:
                pin(atom, self.reason(eqn, why))

    def reason(self, eqn, why: str = "") -> Reason:
        """The primitive, and the line of the equation or of the innermost call around it that has one."""
        return Reason(why) if eqn is None else reason_of(eqn, self.calls, why)

    def fresh_pinned(self, size: int, eqn) -> Atom | None:
        return None if size == 1 else fresh(size, self.reason(eqn, "gives positions an order"))

    def ordered(self, dims: Dims, axes: Sequence[int], eqn, why: str = "depends on the order") -> list[Atom | None]:
        """Pin these axes; results have axes of their own, and nothing is independent for each of their positions."""
        axes = [axis % len(dims) for axis in axes]
        self.pin([dims[k] for k in axes], eqn, why)
        self.mixed(dims, axes)
        return [
            self.fresh_pinned(atom.size, eqn) if k in axes and atom is not None else atom for k, atom in enumerate(dims)
        ]

    def mixed(self, dims: Dims, axes: Sequence[int]) -> None:
        """Positions of these axes meet each other: nothing else is independent for each of them."""
        self._separate([atom for k, atom in enumerate(dims) if k not in axes], [dims[k] for k in axes])

    def roles(self, *, batch: Dims, contracted: Dims, free: tuple[Dims, Dims]) -> None:
        """Dimensions of a contraction: only some may be permuted independently for each position of others."""
        left, right = free
        self._separate(batch, [*contracted, *left, *right])
        self._separate(contracted, [*left, *right])
        self._separate(left, [*contracted, *right])
        self._separate(right, [*contracted, *left])

    def picked(self, *, batch: Dims, entries: Dims, windows: Dims, rows: Dims) -> None:
        """As `roles` for single entries that indices in `rows` pick.

        Whether `windows`, what lies beside them, may be permuted for each entry is seen from what they meet (`picks`).
        """
        self._separate(batch, [*entries, *windows, *rows])
        self._separate(entries, [*windows, *rows])
        self._separate(windows, rows)
        self._separate(rows, [*entries, *windows])

    def _separate(self, atoms: Dims, others: Dims) -> None:
        self.separated += [(x, y) for x in atoms for y in others if x is not None and y is not None]

    def step(self, eqn, ins: Sequence[Occurrence], outs: Sequence[Occurrence], name: str = "link") -> None:
        self.steps.append(Step(name, ins, outs, eqn, tuple(self.calls)))

    def read(self, atoms: Dims) -> None:
        kept = [atom for atom in atoms if atom is not None]
        operands = [operand for operand in self.operands if operand.place is not None]
        if kept and operands:
            self.reads.append(Read(kept, operands))


def reason_of(eqn, calls: Sequence, why: str = "") -> Reason:
    """An equation as a reason; `calls` are those around it."""
    lines = (source_line(one) for one in (eqn, *reversed(calls)))
    return Reason(f"{eqn.primitive.name} {why}".strip(), next((line for line in lines if line), ""))


def source_line(eqn) -> str:
    """The innermost line outside of installed packages and this one, "" if there is none."""
    frames = list(getattr(getattr(eqn.source_info, "traceback", None), "frames", ()))
    for frame in frames:
        name = str(frame.file_name)
        if not installed(name):
            return f"{Path(name).name}:{frame.line_num}"
    return ""


def raised_at(error: Exception) -> str:
    """The innermost line of a model that an error went through, " (at model.py:3)", "" if there is none."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    theirs = [f" (at {Path(name).name}:{line})" for name, line in lines if _package(name) not in TRACED_BY]
    return theirs[-1] if theirs else ""


def _package(name: str) -> str:
    """The installed package of a file, "" for what is no model: the standard library, this package, text."""
    for home, package in itertools.pairwise(Path(name).parts):
        if home in ("site-packages", "dist-packages"):
            return package
    return "" if installed(name) or name.startswith("<") else name


@functools.cache
def installed(name: str) -> bool:
    """Whether a file belongs to the standard library, this package or an installed one.

    Environments can be stacked, so that packages lie elsewhere than `sysconfig` says.
    """
    return name.startswith((_STANDARD, *_READERS)) or not {"site-packages", "dist-packages"}.isdisjoint(
        Path(name).parts
    )
