"""Sums and products of entries at one place, multiplied out: what cancels says nothing of what is left.

JAX writes the slope of a = tanh(x) as `(g + g a) (1 - a)`, or as `z + z a` with `z = g (1 - a)`. Both are `g - g a^2`,
which has no mind for the sign of a, though the steps in between have; so programs with derivatives in them keep the
signs of the functions that they differentiate. A choice between a and b, as x is negative or not, is half of `a + b`
and half of `b - a` times the sign of x, unless x may be zero: so the slope of |x| is written, and the magnitude itself.
Where terms of a polynomial cancel, and nobody else looks at what it was made of, the terms that are left stand in its
place.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

import jax.numpy as jnp

from dwalign.program.inference.distinct import may_vanish
from dwalign.program.inference.facts import Facts, Occurrence, Step

# a value, by its number, and for each dimension of what is made of it the one of the value
Base = tuple[int, tuple[int | None, ...]]
Terms = dict[tuple[Base, ...], Fraction]
# terms, and whether some have cancelled
Polynomial = tuple[Terms, bool]

SAME = {"broadcast_in_dim", "convert_element_type", "copy", "name", "stop_gradient"}
SUMS = {"add": 1, "add_any": 1, "sub": -1}
POWERS = {"square", "integer_pow"}
MADE = {*SAME, *SUMS, *POWERS, "mul", "neg"}
# the sign of what is larger or smaller than zero where that is true
TESTS = {"ge": 1, "gt": 1, "le": -1, "lt": -1}
# of a polynomial with more terms, or factors in one, nobody needs to know
MOST_TERMS, MOST_FACTORS = 64, 12


def multiplied_out(facts: Facts, steps: Sequence[Step]) -> list[Step]:
    """The steps of a program, those that make a polynomial in which terms cancel replaced by those that are left."""
    used = {one.number for step in steps for one in step.ins}
    looked_at = {one.number for step in steps if not _makes(facts, step) for one in step.ins}
    made = {step.outs[0].number for step in steps if _makes(facts, step) or step.name in TESTS}
    hidden = made & used - looked_at
    found = Polynomials(facts)
    out: list[Step] = []
    for step in steps:
        polynomial = found.of_step(step) if _makes(facts, step) else None
        if polynomial is None:
            out.append(step)
            continue
        number, (terms, cancelled) = step.outs[0].number, polynomial
        if step.name in SAME or number in hidden:
            found.known[number] = polynomial
        out += found.written(step, terms) if cancelled and number not in hidden and found.hold(terms) else [step]
    return _without(out, hidden)


def _makes(facts: Facts, step: Step) -> bool:
    """Whether the result is a polynomial of the operands: no whole number, and not rounded to one."""
    values = [*step.outs, *(step.ins if step.name == "convert_element_type" else ())]
    kinds = [one.dtype for one in values]
    known = step.name in MADE or _tested(facts, step) is not None
    return known and all(kind is not None and jnp.issubdtype(kind, jnp.inexact) for kind in kinds)


def _tested(facts: Facts, step: Step) -> tuple[Occurrence, int] | None:
    """The real value whose sign a choice between two goes by, and that of which it takes the second."""
    if step.name != "select_n" or len(step.ins) > 3 or len({len(one.dims) for one in step.ins}) > 1:
        return None
    which = step.ins[0]
    if which.origin is None or which.origin.primitive not in TESTS:
        return None
    sign = TESTS[which.origin.primitive]
    for one, other, times in zip(which.origin.operands, which.origin.operands[::-1], (sign, -sign), strict=True):
        if other.number in facts.zeros and one.dtype is not None and len(one.dims) == len(which.dims):
            return one, times
    return None


def _without(steps: Sequence[Step], hidden: set[int]) -> list[Step]:
    """The steps but those that make what nobody uses any more."""
    used: set[int] = set()
    out = []
    for step in reversed(steps):
        if any(one.number in used or one.number not in hidden for one in step.outs):
            used.update(one.number for one in step.ins)
            out.append(step)
    return out[::-1]


class Polynomials:
    """Attributes:
    known: of values, by number, that are taken for what they are made of; others are bases.
    values: of the bases, in the shapes in which they are multiplied.
    moves: how bases that have no value yet come to theirs, by a step and of which base.
    numbers, signs: of the signs of values those that they have, and for these by which step they are made, of what.
    constant: some number.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.known: dict[int, Polynomial] = {}
        self.values: dict[Base, Occurrence] = {}
        self.moves: dict[Base, tuple[Step, Base]] = {}
        self.numbers: dict[int, int] = {}
        self.signs: dict[int, tuple[Step, Occurrence]] = {}
        self.constant: list[Occurrence] = []

    def of(self, one: Occurrence, rank: int) -> Polynomial:
        """That of an operand beside others of so many dimensions; scalars have none of these."""
        if math.isfinite(constant := self.facts.scalars.get(one.number, math.nan)):
            self.constant = self.constant or [one]
            return ({(): Fraction(constant)} if constant else {}), False
        if one.number in self.known and len(one.dims) == rank:
            return self.known[one.number]
        base = one.number, tuple(range(rank)) if len(one.dims) == rank else (None,) * rank
        self.values.setdefault(base, one)
        return {(base,): Fraction(1)}, False

    def of_step(self, step: Step) -> Polynomial | None:
        """That of the result; None where it is too large."""
        rank = max(len(one.dims) for one in step.ins)
        (terms, cancelled), *others = (self.of(one, rank) for one in step.ins)
        if (tested := _tested(self.facts, step)) is not None:
            terms, cancelled = self._chosen(step, tested)
        elif step.name == "broadcast_in_dim":
            terms = self._broadcast(step, terms)
        elif step.name == "neg":
            terms = {term: -value for term, value in terms.items()}
        elif step.name in SUMS:
            ((more, also),) = others
            factor = SUMS[step.name]
            total = terms | {term: terms.get(term, Fraction(0)) + factor * value for term, value in more.items()}
            terms, cancelled = _left(total, cancelled or also)
        elif step.name in POWERS:
            exponent = 2 if step.name == "square" else step.eqn.params["y"]
            if not 0 < exponent <= MOST_FACTORS:
                return None
            once = terms
            for _ in range(exponent - 1):
                terms, cancelled = _product(terms, once, cancelled)
                if len(terms) > MOST_TERMS:
                    return None
        elif step.name == "mul":
            ((more, also),) = others
            terms, cancelled = _product(terms, more, cancelled or also)
        small = len(terms) <= MOST_TERMS and all(len(term) <= MOST_FACTORS for term in terms)
        return (terms, cancelled) if small else None

    def _chosen(self, step: Step, tested: tuple[Occurrence, int]) -> Polynomial:
        """Half of the sum of both cases, and of their difference times a sign."""
        (one, times), rank = tested, len(step.outs[0].dims)
        number = self.numbers.setdefault(one.number, self.facts.number())
        sign = number, tuple(range(rank))
        self.signs[number] = step, one
        total: Terms = {}
        cases = [self.of(case, rank) for case in step.ins[1:]]
        for (terms, _), factor in zip(cases, (-times, times), strict=True):
            for term, value in terms.items():
                for both, half in ((term, value / 2), (_ordered((sign, *term)), factor * value / 2)):
                    total[both] = total.get(both, Fraction(0)) + half
        return _left(total, any(cancelled for _, cancelled in cases))

    def _broadcast(self, step: Step, terms: Terms) -> Terms:
        """The same in another shape."""
        at, rank = _along(step), len(step.outs[0].dims)

        def moved(base: Base) -> Base:
            number, dims = base
            out = number, tuple(dims[at[d]] if d in at else None for d in range(rank))
            if base in self.values and not self.values[base].dims:
                self.values[out] = self.values[base]
            if out != base:
                self.moves[out] = step, base
            return out

        return {_ordered(map(moved, term)): value for term, value in terms.items()}

    def hold(self, terms: Terms) -> bool:
        """Whether no value whose sign is taken may be zero, where programs take it for one or the other."""
        signs = {number for term in terms for number, _ in term if number in self.signs}
        return not any(may_vanish(self.facts, self.signs[number][1]) for number in signs)

    def written(self, step: Step, terms: Terms) -> list[Step]:
        """Steps that make the result of one from the terms."""
        (result,), steps, parts = step.outs, [], []
        for term in terms:
            factors = [self._value(base, steps) for base in term] or self.constant
            while len(factors) > 1:
                first, second, *rest = factors
                product = result._replace(number=self.facts.number(), origin=None)
                steps.append(step._replace(name="mul", ins=[first, second], outs=[product]))
                factors = [product, *rest]
            parts += factors
        return [*steps, step._replace(name="add", ins=parts)]

    def _value(self, base: Base, steps: list[Step]) -> Occurrence:
        if base not in self.values and base not in self.moves:
            step, one = self.signs[base[0]]
            self.values[base] = one._replace(number=base[0], origin=None, positions=None)
            steps.append(step._replace(name="sign", ins=[one], outs=[self.values[base]]))
        elif base not in self.values:
            step, before = self.moves[base]
            one, at = self._value(before, steps), _along(step)
            dims = [one.dims[at[d]] if d in at else None for d in range(len(step.outs[0].dims))]
            self.values[base] = step.outs[0]._replace(dims=dims, number=self.facts.number(), origin=None)
            steps.append(step._replace(ins=[one], outs=[self.values[base]]))
        return self.values[base]


def _along(step: Step) -> dict[int, int]:
    """Of which dimension of the operand each of a result is."""
    return {d: k for k, d in enumerate(step.eqn.params["broadcast_dimensions"])}


def _product(terms: Terms, others: Terms, cancelled: bool) -> Polynomial:
    total: Terms = {}
    for one, value in terms.items():
        for two, other in others.items():
            both = _ordered((*one, *two))
            total[both] = total.get(both, Fraction(0)) + value * other
    return _left(total, cancelled)


def _left(total: Terms, cancelled: bool) -> Polynomial:
    terms = {term: value for term, value in total.items() if value}
    return terms, cancelled or len(terms) < len(total)


def _ordered(bases: Iterable[Base]) -> tuple[Base, ...]:
    return tuple(sorted(bases, key=lambda base: (base[0], [-1 if d is None else d for d in base[1]])))
