"""Means over the units of a residual stream that are only subtracted: its writers may as well leave them out.

A stream is a sum of what products, tables and biases write. Where it is read by nothing but x - mean(x) and
mean(x ** 2) - mean(x) ** 2, nobody sees what is added to all its units at once. So its writers can be centred along the
units, and then the mean is zero.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from dwalign.program.folding.follow import Roles, count, follow, mapped, moved, product

# writers that are no product: an array of parameters that is added as it is, and what is not known
ARRAY, UNKNOWN = -1, -2


class Fixed(NamedTuple):
    """Entries of the parameters, up to a number that is the same for all."""

    index: np.ndarray


class Part(NamedTuple):
    """What one writer adds; `index` numbers the `[batch, free]` of its product, or the entries of the parameters.

    `place` numbers what the product has read: what is added to its units at once is the same at one place.
    """

    writer: int
    index: np.ndarray
    place: np.ndarray


class Stream(NamedTuple):
    """A sum of parts: the entries `at` of the stream number `of`."""

    of: int
    at: np.ndarray
    parts: tuple[Part, ...]


class Square(NamedTuple):
    """Of a stream, entry by entry."""

    of: int
    at: np.ndarray


class Moment(NamedTuple):
    """A number times the mean of a stream along some axes, of its square, or the square of the mean, as `kind` says.

    Attributes:
      at: the first entry of those that it is the mean of.
      along: the number of the way in which the entries of the stream are taken together.
      eqn: the id of the equation that sums.
    """

    of: int
    kind: str
    number: float
    at: np.ndarray
    along: int
    eqn: int


class Other(NamedTuple):
    """Entries of a value that is computed in ways that are not followed, such as the inverse of a deviation."""

    of: int
    at: np.ndarray


class Scaled(NamedTuple):
    """A stream or a moment times something else, entry by entry."""

    value: Stream | Moment
    by: Other


Known = Fixed | Stream | Square | Moment | Other | Scaled


class Centring(NamedTuple):
    """Attributes:
    rows: entries of parameters `[..., n]` to be centred along the last axis.
    zeros: ids of equations whose results are zero then.
    notes: why others are not, with an entry of the array that stands in the way.
    """

    rows: list[np.ndarray]
    zeros: set[int]
    notes: list[tuple[int | None, str]]


def find_centring(program: ClosedJaxpr, arguments: int) -> Centring:
    """Of a program whose calls are written out, and whose first `arguments` inputs are parameters."""
    found, start = _Found(), 0
    values: list[Any] = []
    for var in program.jaxpr.invars[:arguments]:
        index = count(var.aval.shape, start)
        values.append(Fixed(index) if jnp.issubdtype(var.aval.dtype, jnp.floating) else None)
        start += var.aval.size
    inputs = [None] * (len(program.jaxpr.invars) - arguments)
    is_fixed = lambda one: isinstance(one, Fixed)
    for out in follow(program, [*values, *inputs], found.equation, rows=is_fixed, leave=found.see):
        found.see(out)
    return found.centring(start)


class _Found:
    """What the walk finds out.

    Attributes:
      kernels: of the products that write.
      streams: the parts of each.
      seen, others: parts, and entries of parameters, that are used in other ways.
      means: for each equation that sums units the parts of what it sums, `[rest, units]`, every time it is computed.
      subtracted: the equations of which the means are subtracted.
      along: ways to take a mean: for each entry of a stream the first of those that it is taken with.
    """

    def __init__(self) -> None:
        self.kernels: list[np.ndarray] = []
        self.streams: list[tuple[Part, ...]] = []
        self.seen: list[Part] = []
        self.others: list[np.ndarray] = []
        self.means: dict[int, list[list[Part]]] = {}
        self.subtracted: dict[int, None] = {}
        self.along: list[np.ndarray] = []
        self.inverses = 0
        self._numbers: dict[Any, int] = {}

    def see(self, value: Any) -> None:
        """The value is used in a way that is not followed; what comes of it is not known."""
        if isinstance(value, Fixed):
            self.others.append(value.index)
        elif isinstance(value, Stream | Square | Moment):
            self.seen += self.streams[value.of]
        elif isinstance(value, Scaled):
            self.see(value.value)

    def equation(self, eqn: Any, ins: Sequence) -> list:
        ins = [one if isinstance(one, Known | None) else _number(one) for one in ins]
        out = self._followed(eqn, ins)
        if out is None:
            for one in ins:
                self.see(one)
            out = [None] * len(eqn.outvars)
        if out == [None] and eqn.primitive.name in INVERSES:
            self.inverses += 1
            out = [Other(self.inverses, count(eqn.outvars[0].aval.shape))]
        return out

    def _followed(self, eqn: Any, ins: list) -> list | None:
        name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
        if name == "concatenate" and not all(isinstance(one, Fixed) for one in ins):
            return self._concatenated(eqn.params["dimension"], ins, shape)
        if name == "pad":
            padded = moved(eqn, ins[:1]) if isinstance(ins[0], Stream) and ins[1] == 0 else None
            return None if padded is None else [self._new(padded[0].parts, shape)]
        if ins and ins[0] is not None and (found := moved(eqn, ins)) is not None:
            return found
        if name in ("dot_general", "conv_general_dilated", "gather"):
            return self._written(eqn, ins)
        if name == "reduce_sum":
            return self._summed(eqn, ins[0])
        if (name in ("square", "integer_pow") and eqn.params.get("y", 2) == 2) or (name == "mul" and ins[0] is ins[1]):
            return _squared(ins[0])
        if name == "mul" and any(isinstance(one, Other) for one in ins):
            return _times(*(mapped(lambda index: np.broadcast_to(index, shape), one) for one in ins))
        if name in ("mul", "div", "neg"):
            return self._scaled(name, *ins)
        if name in ("add", "add_any", "sub"):
            left, right = (mapped(lambda index: np.broadcast_to(index, shape), one) for one in ins)
            if any(isinstance(one, Moment | Scaled) for one in (left, right)):
                return self._difference(left, right, -1.0 if name == "sub" else 1.0)
            if not any(isinstance(one, Stream) for one in (left, right)):
                return None
            return [self._new([*self._parts(left, shape), *self._parts(right, shape)], shape)]
        return None

    def _new(self, parts: Sequence[Part], shape: Sequence[int]) -> Stream:
        self.streams.append(tuple(parts))
        return Stream(len(self.streams) - 1, count(shape), tuple(parts))

    def _parts(self, value: Any, shape: Sequence[int]) -> tuple[Part, ...]:
        """What a summand is made of."""
        if isinstance(value, Stream):
            return value.parts
        if isinstance(value, Fixed):
            return (Part(ARRAY, value.index, np.broadcast_to(0, value.index.shape)),)
        self.see(value)
        return () if value == 0 else (Part(UNKNOWN, *[np.broadcast_to(0, shape)] * 2),)

    def _written(self, eqn: Any, ins: list) -> list | None:
        for side in (1, 0):
            kernel, other = ins[side], ins[1 - side]
            if not isinstance(kernel, Fixed) or isinstance(other, Fixed) or (kernel.index < 0).any():
                continue
            found = _rows(eqn, kernel.index) if eqn.primitive.name == "gather" else product(eqn, side, kernel.index)
            if found is None:
                return None
            self.see(other)
            array, made, place = found[:3]
            number = self._numbers.setdefault((hash(array.tobytes()), array.shape), len(self.kernels))
            self.kernels += [array] * (number == len(self.kernels))
            return [self._new([Part(number, made, place)], made.shape)]
        return None

    def _concatenated(self, axis: int, ins: list, shape: Sequence[int]) -> list | None:
        if not all(isinstance(one, Fixed | Stream) for one in ins):
            return None
        parts, start = [], 0
        for one in ins:
            for part in self._parts(one, ()):
                end = start + part.index.shape[axis]
                around = [(start, shape[axis] - end) if k == axis else (0, 0) for k in range(len(shape))]
                parts.append(mapped(lambda x, around=around: np.pad(x, around, constant_values=-1), part))
            start = end
        return [self._new(parts, shape)]

    def _scaled(self, name: str, *ins: Any) -> list | None:
        value, *others = sorted(ins, key=lambda one: isinstance(one, float))
        (number,) = others or (-1.0,)
        if not isinstance(number, float) or not number or (name == "div" and value is not ins[0]):
            return None
        if isinstance(value, float | Square | Other | Scaled):
            return None
        if isinstance(value, Moment):
            return [value._replace(number=value.number / number if name == "div" else value.number * number)]
        return [self._new(value.parts, value.at.shape) if isinstance(value, Stream) else value]

    def _summed(self, eqn: Any, value: Any) -> list | None:
        axes, shape = eqn.params["axes"], eqn.outvars[0].aval.shape
        if not isinstance(value, Stream | Square):
            return None
        one = tuple(0 if k in axes else slice(None) for k in range(value.at.ndim))
        count = value.at.size // max(1, value.at[one].size)
        parts = value.parts if isinstance(value, Stream) else ()
        known = [part for part in parts if part.writer != UNKNOWN]
        if parts and all((part.index == part.index.take([0], k)).all() for part in known for k in axes):
            # over positions, at all of which the same is written
            return [self._new([mapped(lambda x: x[one], part) for part in parts], shape)]
        least = value.at.min(axes, keepdims=True)
        along = np.full(int(value.at.max()) + 1, -1)
        along[value.at] = least
        self.along.append(along)
        if parts:
            rows = lambda x: np.moveaxis(x, axes, range(-len(axes), 0)).reshape(-1, count)
            written = [mapped(rows, part) for part in parts]
            self.means.setdefault(id(eqn), []).append(written)
        kind = "mean" if parts else "mean of squares"
        return [Moment(value.of, kind, float(count), least[one], len(self.along) - 1, id(eqn))]

    def _difference(self, left: Any, right: Any, sign: float) -> list | None:
        """A sum, or a difference where the sign of the right is -1: x - m, or x s - m s."""
        if isinstance(left, Scaled) and isinstance(right, Scaled):
            if left.by.of != right.by.of or not np.array_equal(left.by.at, right.by.at):
                return None
            left, right = left.value, right.value
        if isinstance(left, Moment) and isinstance(right, Stream) and sign == 1:
            left, right = right, left
        return self._centred(left, right._replace(number=-sign * right.number)) if isinstance(right, Moment) else None

    def _centred(self, left: Any, right: Moment) -> list | None:
        """What a mean is subtracted from: then nothing is seen of what was added to all units."""
        if isinstance(left, Stream):
            fits = right.kind == "mean" and np.array_equal(self.along[right.along][left.at], right.at)
        elif isinstance(left, Moment):
            fits = (left.kind, right.kind) == ("mean of squares", "square of mean") and abs(left.number - 1) < NEAR
            fits = (
                fits
                and np.array_equal(left.at, right.at)
                and np.array_equal(self.along[left.along], self.along[right.along])
            )
        else:
            return None
        if not fits or left.of != right.of or abs(right.number - 1) > NEAR:
            return None
        self.subtracted[right.eqn] = None
        return [None]

    def centring(self, size: int) -> Centring:
        """What can be centred, of parameters with so many entries."""
        roles = Roles(size)
        for number, kernel in enumerate(self.kernels):
            roles.give(kernel, number, once=True)
        for part in (part for stream in self.streams for part in stream if part.writer == ARRAY):
            roles.give(part.index, ARRAY)
        keys: dict[int, list[Any]] = {}
        ways: dict[Any, np.ndarray | None] = {}
        for eqn in self.subtracted:
            for part in (part for written in self.means[eqn] for part in written):
                key = part.writer, part.index.shape, hash(part.index.tobytes())
                ways[key] = _units(part.index) if key not in ways else ways[key]
                # what the mean takes away is not what is added to all units
                one_place = (part.place == part.place[:, :1]).all()
                self.seen += [part] * (ways[key] is None or not one_place)
                keys.setdefault(eqn, []).append(key)
        for index in (*self.others, *(part.index for part in self.seen if part.writer == ARRAY)):
            roles.give(index, "other")
        seen = {part.writer for part in self.seen} - {ARRAY} | {UNKNOWN}
        torn = _torn(ways)

        def judged(key: Any) -> np.ndarray | tuple[int | None, str]:
            """The entries that the writer has, `[..., units]`, or what stands in the way."""
            writer, rows = key[0], ways[key]
            if writer == UNKNOWN:
                return None, "what is normalised is no sum of what parameters write, as after another norm"
            kernel = None if writer == ARRAY else self.kernels[writer].swapaxes(0, 1)
            if rows is None or writer in seen or key in torn:
                first = rows if kernel is None else kernel
                return None if first is None else int(first.flat[0]), NOT_ALONE
            whole = rows if kernel is None else kernel.reshape(len(kernel), -1)[:, rows]
            return whole if roles.has(whole, writer) else (int(whole.flat[0]), "is used in another way, too")

        found = {key: judged(key) for key in ways}
        stand = [[found[key] for key in each if isinstance(found[key], tuple)] for each in keys.values()]
        zeros = {eqn for eqn, against in zip(keys, stand, strict=True) if not against}
        used = dict.fromkeys(key for eqn in keys if eqn in zeros for key in keys[eqn])
        # of what stands in the way of one mean the first, or what no array is to blame for
        notes = dict.fromkeys(min(against, key=lambda one: one[0] is not None) for against in stand if against)
        return Centring([found[key] for key in used], zeros, list(notes))


def _torn(ways: Mapping[Any, np.ndarray | None]) -> set[Any]:
    """The ways in which one writer would be centred along different units that have some in common."""
    out: set[Any] = set()
    for (one, rows), (other, more) in itertools.combinations(ways.items(), 2):
        if one[0] != other[0] or rows is None or more is None or rows.max() < more.min() or more.max() < rows.min():
            continue
        if not np.array_equal(rows, more) and np.intersect1d(rows, more).size:
            out |= {one, other}
    return out


NEAR = 1e-6
# what a norm divides by, or multiplies with
INVERSES = ("rsqrt", "div", "sqrt")
NOT_ALONE = "writes what is not only normalised, along the same units everywhere"


def _number(value: Any) -> float | None:
    """What a constant of the program is, where it is one number."""
    return float(value) if getattr(value, "ndim", 1) == 0 and np.asarray(value).dtype.kind in "fiub" else None


def _times(left: Any, right: Any) -> list | None:
    value, by = (left, right) if isinstance(right, Other) else (right, left)
    return [Scaled(value, by)] if isinstance(value, Stream | Moment) else None


def _squared(value: Any) -> list | None:
    if isinstance(value, Stream):
        return [Square(value.of, value.at)]
    if isinstance(value, Moment) and value.kind == "mean":
        return [value._replace(kind="square of mean", number=value.number**2)]
    return None


def _rows(eqn: Any, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Rows of a table picked by data, as the product with a one-hot matrix: its `kernel`, `made` and `place`."""
    numbers, shape = eqn.params["dimension_numbers"], eqn.outvars[0].aval.shape
    picked = numbers.collapsed_slice_dims
    free = [k for k in range(index.ndim) if k not in picked]
    whole = all(eqn.params["slice_sizes"][k] == index.shape[k] for k in free)
    if not whole or set(numbers.start_index_map) - set(picked) or numbers.operand_batching_dims:
        return None
    sizes = [index.shape[k] for k in free]
    kernel = index.transpose([*picked, *free]).reshape(1, -1, math.prod(sizes))
    made = count(sizes).reshape([n if k in numbers.offset_dims else 1 for k, n in enumerate(shape)])
    place = count([1 if k in numbers.offset_dims else n for k, n in enumerate(shape)])
    return kernel, np.broadcast_to(made, shape), np.broadcast_to(place, shape)


def _units(index: np.ndarray) -> np.ndarray | None:
    """The different rows of `[rest, units]`; None where these are not whole, or have entries in common."""
    index = index[(index >= 0).any(1)]
    rows = index[:1] if (index == index[:1]).all() else np.unique(index, axis=0)
    return None if (rows < 0).any() or np.unique(rows).size < rows.size else rows
