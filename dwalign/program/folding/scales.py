"""What multiplies values and is added to them, entry by entry, from where it enters to where it is read.

Every value is its gain times something plus its shift, both made of entries of the parameters. A product with a matrix
reads them: the gain of what it reads may go into its rows, the shift through it into its bias; and the gain of what it
made may go into its columns.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from dwalign.program.folding.follow import Product, common, count, follow, mapped, moved, product


class Atom(NamedTuple):
    """(parameter + added) ** power, for the parameters that `index` numbers."""

    index: np.ndarray
    added: float = 0.0
    power: float = 1.0


class Term(NamedTuple):
    """A number times the product of the atoms."""

    number: float
    atoms: tuple[Atom, ...]


class Fixed(NamedTuple):
    """A value made of parameters alone, the sum of the terms."""

    terms: tuple[Term, ...]


class Made(NamedTuple):
    """A value that is a number times the result of a product; `index` numbers its `[batch, free]`."""

    by: int
    index: np.ndarray
    number: float


class Value(NamedTuple):
    """A value that depends on data."""

    gain: tuple[Atom, ...] = ()
    shift: tuple[Term, ...] = ()
    made: Made | None = None


class Reader(NamedTuple):
    """A product of parameters `[batch, contracted, free]` with a value of this gain and shift `[batch, contracted]`."""

    number: float
    kernel: np.ndarray
    gain: tuple[Atom, ...]
    shift: tuple[Term, ...]


class End(NamedTuple):
    """Where a value is used other than linearly: by a product, or by what `why` names."""

    value: Value
    reader: int | None
    why: str


class Scales(NamedTuple):
    """Attributes:
    readers: the products with parameters.
    ends: of all values.
    others: entries of parameters that are used in other ways.
    """

    readers: list[Reader]
    ends: list[End]
    others: list[np.ndarray]


PLAIN = Value()


def find_scales(program: ClosedJaxpr, arguments: int) -> Scales:
    """Of a program whose calls are written out, and whose first `arguments` inputs are parameters."""
    found = _Found()
    values: list[Any] = []
    start = 0
    for k, var in enumerate(program.jaxpr.invars):
        if k < arguments:
            index = count(var.aval.shape, start)
            values.append(
                Fixed((Term(1.0, (Atom(index),)),)) if jnp.issubdtype(var.aval.dtype, jnp.floating) else PLAIN
            )
            start += var.aval.size
        else:
            values.append(PLAIN)
    rows = lambda one: isinstance(one, Fixed) and any(term.atoms for term in one.terms)
    outs = follow(program, values, found.equation, rows=rows, leave=lambda one: found.end(found.read(one), "scan"))
    for out in outs:
        found.end(found.read(out), "an output of the program")
    return Scales(found.readers, found.ends, found.others)


class _Found:
    def __init__(self) -> None:
        self.readers: list[Reader] = []
        self.ends: list[End] = []
        self.others: list[np.ndarray] = []
        self._numbers: dict[Any, int] = {}

    def read(self, value: Any) -> Fixed | Value:
        if isinstance(value, Fixed | Value):
            return value
        array = np.asarray(value) if getattr(value, "ndim", 1) == 0 or isinstance(value, np.ndarray) else None
        if array is None or array.dtype.kind not in "fiub" or array.size == 0 or (array != array.flat[0]).any():
            return PLAIN
        return Fixed((Term(float(array.flat[0]), ()),))

    def end(self, value: Fixed | Value, why: str, reader: int | None = None) -> Value:
        """The value is used here; what comes of it is data like any."""
        if isinstance(value, Fixed):
            self.others += [atom.index for term in value.terms for atom in term.atoms]
        elif value != PLAIN:
            self.ends.append(End(value, reader, why))
        return PLAIN

    def equation(self, eqn: Any, ins: Sequence) -> list:
        ins = [self.read(one) for one in ins]
        out = self._linear(eqn, ins)
        if out is None:
            for one in ins:
                self.end(one, _reason(eqn.primitive.name))
            out = [PLAIN] * len(eqn.outvars)
        return out

    def _linear(self, eqn: Any, ins: list) -> list | None:
        name = eqn.primitive.name
        if name == "pad":
            return moved(eqn, ins[:1]) if isinstance(ins[0], Value) and ins[1] == ZERO else None
        if (found := moved(eqn, ins)) is not None:
            return found
        if name in ("dot_general", "conv_general_dilated"):
            return self._product(eqn, ins)
        if name == "reduce_sum" and isinstance(ins[0], Value):
            total = _summed(ins[0], eqn.params["axes"])
            return None if total is None else [total]
        if name not in ("add", "sub", "mul", "div", "neg", "rsqrt", "sqrt", "add_any"):
            return None
        shape = eqn.outvars[0].aval.shape
        wide = [mapped(lambda index: np.broadcast_to(index, shape), one) for one in ins]
        if all(isinstance(one, Value) for one in ins) and name in ("mul", "div"):
            return [self._multiplied(name, wide)]
        out = _fixed(name, wide) if all(isinstance(one, Fixed) for one in ins) else _computed(name, wide)
        return None if out is None else [out]

    def _multiplied(self, name: str, ins: list[Value]) -> Value:
        """Two values that depend on data: gains multiply, all else ends here."""
        left, right = (self.end(one, name) if one.shift or one.made else one for one in ins)
        right = self.end(right, name) if name == "div" else right
        return Value((*left.gain, *right.gain))

    def _product(self, eqn: Any, ins: list) -> list | None:
        for side in (1, 0):
            kernel, value = ins[side], ins[1 - side]
            atom = _entries(kernel)
            if atom is None or not isinstance(value, Value):
                continue
            found = product(eqn, side, atom.index)
            # the gain of what a product made goes back into that one
            read = None if found is None else _read(found, PLAIN if value.made else value)
            if found is None or read is None:
                return None
            reader = Reader(kernel.terms[0].number, found.kernel, *read)
            self.end(value, "", self._number(reader))
            return [Value(made=Made(self._number(reader), found.made, 1.0))]
        return None

    def _number(self, reader: Reader) -> int:
        """Of a product; the same one computed again, on what has the same gain, has the same."""
        key = str(mapped(lambda index: hash(index.tobytes()), reader)), reader.kernel.shape
        if key not in self._numbers:
            self._numbers[key] = len(self.readers)
            self.readers.append(reader)
        return self._numbers[key]


ZERO = Fixed((Term(0.0, ()),))


def _reason(name: str) -> str:
    if name in ("add", "add_any", "sub"):
        return "a sum, such as a residual stream that norms are part of"
    # what has rules of its own for gradients is told by no name
    return "a non-linearity" if name.startswith("custom_") else name


def _entries(value: Any) -> Atom | None:
    """The one atom of parameters that are used as they are, up to a number."""
    if not isinstance(value, Fixed) or len(value.terms) != 1 or len(value.terms[0].atoms) != 1:
        return None
    (atom,) = value.terms[0].atoms
    return atom if (atom.added, atom.power) == (0, 1) and (atom.index >= 0).all() else None


def _read(found: Product, value: Value) -> tuple[tuple[Atom, ...], tuple[Term, ...]] | None:
    """Gain and shift `[batch, contracted]`; None where they are not the same for all that is multiplied alike."""
    gain = mapped(lambda index: common(found.read(index)), value.gain)
    shift = mapped(lambda index: common(found.read(index), exact=True), value.shift)
    if any(atom.index is None for atom in gain) or any(atom.index is None for term in shift for atom in term.atoms):
        return None
    return None if shift and found.padded else (gain, shift)


def _summed(value: Value, axes: Sequence[int]) -> Value | None:
    """A sum over positions that are all scaled and shifted alike."""
    arrays = [atom.index for atom in (*value.gain, *(atom for term in value.shift for atom in term.atoms))]
    if value.made or not arrays or any((array != array.take([0], axis)).any() for array in arrays for axis in axes):
        return None
    times = float(math.prod(arrays[0].shape[axis] for axis in axes))
    first = tuple(0 if axis in axes else slice(None) for axis in range(arrays[0].ndim))
    gain, shift = mapped(lambda index: index[first], (value.gain, value.shift))
    return Value(gain, _times(shift, Term(times, ())))


def _times(terms: Sequence[Term], factor: Term) -> tuple[Term, ...]:
    return tuple(Term(term.number * factor.number, (*term.atoms, *factor.atoms)) for term in terms)


def _inverse(term: Term) -> Term | None:
    atoms = tuple(atom._replace(power=-atom.power) for atom in term.atoms)
    return Term(1 / term.number, atoms) if term.number else None


def _fixed(name: str, ins: list[Fixed]) -> Fixed | None:
    """Arithmetic on parameters alone."""
    terms = ins[0].terms
    if name == "neg":
        return Fixed(_times(terms, Term(-1.0, ())))
    if name in ("rsqrt", "sqrt"):
        atom = _single(ins[0])
        power = -0.5 if name == "rsqrt" else 0.5
        if atom is None or atom.power != 1:
            return None
        return Fixed((Term(1.0, (atom._replace(power=power),)),))
    if name in ("add", "add_any", "sub"):
        return Fixed((*terms, *(_times(ins[1].terms, Term(-1.0, ())) if name == "sub" else ins[1].terms)))
    other = _factor(ins[1])
    if name == "div":
        other = None if other is None else _inverse(other)
    if other is not None:
        return Fixed(_times(terms, other))
    one = _factor(ins[0])
    return None if one is None or name == "div" else Fixed(_times(ins[1].terms, one))


def _single(value: Fixed) -> Atom | None:
    """The atom that these terms are: an array of parameters, or one plus a number."""
    arrays = [term for term in value.terms if term.atoms]
    if len(arrays) != 1 or len(arrays[0].atoms) != 1 or arrays[0].number != 1:
        return None
    (atom,) = arrays[0].atoms
    added = sum(term.number for term in value.terms if not term.atoms)
    if added and (atom.power != 1 or atom.added):
        return None
    return atom._replace(added=atom.added + added)


def _factor(value: Fixed) -> Term | None:
    if len(value.terms) == 1:
        return value.terms[0]
    atom = _single(value)
    return None if atom is None else Term(1.0, (atom,))


def _computed(name: str, ins: list) -> Value | None:
    """Arithmetic with a value that depends on data."""
    if name == "neg":
        return _scaled(ins[0], Term(-1.0, ()))
    if name not in ("add", "add_any", "sub", "mul", "div"):
        return None
    left, right = ins
    if name in ("add", "add_any", "sub"):
        sign = Term(-1.0, ()) if name == "sub" else Term(1.0, ())
        if isinstance(left, Value) and isinstance(right, Value):
            # such as x * (gain / deviation) - mean * (gain / deviation)
            alike = mapped(np.array_equal, left.gain, right.gain)
            if left.made or right.made or not left.gain or alike is None or not all(atom.index for atom in alike):
                return None
            return Value(left.gain, (*left.shift, *_times(right.shift, sign)))
        if isinstance(right, Fixed):
            return _shifted(left, _times(right.terms, sign))
        return _shifted(_scaled(right, sign), left.terms)
    value, fixed = (left, right) if isinstance(left, Value) else (right, left)
    factor = _factor(fixed)
    if name == "div":
        factor = None if factor is None or value is right else _inverse(factor)
    return None if factor is None else _scaled(value, factor)


def _scaled(value: Value, factor: Term) -> Value | None:
    if any((atom.index < 0).any() for atom in factor.atoms) or factor.number == 0:
        return None
    made = value.made and value.made._replace(number=value.made.number * factor.number)
    return Value((*value.gain, *factor.atoms), _times(value.shift, factor), made)


def _shifted(value: Value | None, terms: Sequence[Term]) -> Value | None:
    terms = tuple(term for term in terms if term.number)
    if value is None or any(not term.atoms for term in terms):
        # a number is added to all
        return value if value is not None and not terms else None
    return value._replace(shift=(*value.shift, *terms))
