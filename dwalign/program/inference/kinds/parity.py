"""Functions of one value that are odd or even as a whole, though not all steps that they are written in are.

`logaddexp(x, -x)` takes the larger of both, `where(x < 0, -x, x)` asks which it is, `x - 2 * x * signbit(x)` looks at a
bit; all of them are even. Where nobody else looks at what is in between, a result is written as a polynomial of opaque
functions of x, once for x and once for -x, and the two are compared. What makes that more than a comparison of texts is
how these functions are chosen: the larger of two is half their sum and half the size of their difference, a choice is a
product with a truth value, the logistic function is one half beside an odd one, and of arguments the sign is known.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dwalign.program.inference.atoms import find
from dwalign.program.inference.facts import Facts, Occurrence, Step

# a product of opaque functions, by their numbers, in order
Product = tuple[int, ...]
Polynomial = dict[Product, Fraction]

ODD = "sin tan tanh asin atan sinh asinh atanh erf erf_inv bessel_i1e cbrt round"
EVEN = "abs cos cosh bessel_i0e"
SAME = {"copy", "copy_p", "name", "reduce_precision", "stop_gradient"}
LINEAR = {"real", "imag", "conj"}
LOGIC = {"and", "or", "not", "select_n"}
SHIFTS = {"shift_right_arithmetic", "shift_right_logical"}
OTHERS = set("exp exp2 expm1 log log1p sqrt rsqrt erfc lgamma digamma is_finite bitcast_convert_type".split()) | SHIFTS
FUNCTIONS = {*ODD.split(), *EVEN.split(), *SAME, *LINEAR, *LOGIC, *OTHERS, "convert_element_type"} | set(
    "add add_any sub neg mul div max min square integer_pow logistic sign gt lt ge le eq ne".split()
)
# what takes more is no activation function
MOST_STEPS, MOST_TERMS, MOST_FACTORS = 64, 32, 12
ALL, HALF = Fraction(1), Fraction(1, 2)
ONE: Product = ()


class Mirrored(NamedTuple):
    """A result is an odd or even function of `x`; `between` are the numbers of what nobody else looks at."""

    x: Occurrence
    odd: bool
    between: frozenset[int]


class _Unclear(Exception):
    """Nothing that a polynomial of opaque functions says."""


def mirrored(facts: Facts, steps: Sequence[Step]) -> dict[int, Mirrored]:
    """The results that are odd or even as a whole, by their numbers.

    Of `steps` that are written anew, as those of polynomials are, only the exponents are right: they tell which values
    there still are, and those of the program what these are.
    """
    there = {out.number for step in steps for out in step.outs}
    lost = {out.number for step in facts.steps for out in step.outs} - there
    made = {step.outs[0].number: step for step in facts.steps if len(step.outs) == 1}
    order = {number: k for k, number in enumerate(made)}
    used = Counter(one.number for step in facts.steps for one in step.ins)
    found: dict[int, Mirrored] = {}
    gone: set[int] = set()
    for number, step in reversed(made.items()):
        if number in gone or (root := _root(facts, made, order, used, step)) is None:
            continue
        x, between = root
        if x.number in lost:
            continue
        try:
            functions: dict[Any, int] = {}
            one, other = (Written(facts, made, functions, x, sign).of(step.outs[0]) for sign in (1, -1))
        except _Unclear:
            continue
        if one and other in (one, _times(one, -ALL)):
            found[number] = Mirrored(x, other != one, between)
            gone |= between
    return found


def _root(
    facts: Facts, made: Mapping[int, Step], order: Mapping[int, int], used: Counter, step: Step
) -> tuple[Occurrence, frozenset[int]] | None:
    """The one value that all of a result comes from, of those the last, and what is in between."""
    out = step.outs[0]
    waiting, inside, looks = {out.number: out}, {out.number}, Counter[int]()
    while waiting:
        number = max(waiting, key=lambda number: order.get(number, -1))
        one = waiting.pop(number)
        if not waiting and number != out.number:
            between = inside - {out.number}
            return (one, frozenset(between)) if between and all(looks[k] == used[k] for k in between) else None
        origin = made.get(number)
        if origin is None or origin.name not in FUNCTIONS or _layout(one) != _layout(out) or len(inside) > MOST_STEPS:
            return None
        inside.add(number)
        for operand in origin.ins:
            looks[operand.number] += 1
            if not is_constant(facts, made, operand):
                waiting[operand.number] = operand
    return None


def is_constant(facts: Facts, made: Mapping[int, Step], one: Occurrence) -> bool:
    """One number, or what is computed of one."""
    while one.number not in facts.scalars:
        step = made.get(one.number)
        if step is None or len(step.ins) != 1 or step.name not in FUNCTIONS | {"broadcast_in_dim"}:
            return False
        (one,) = step.ins
    return True


def _layout(one: Occurrence) -> list[Any]:
    return [None if atom is None else find(atom) for atom in one.dims]


class Written:
    """What values are in terms of `x`, or of its negative where `sign` is -1.

    `functions` are the opaque ones and their numbers, the same for both.
    """

    def __init__(
        self, facts: Facts, made: Mapping[int, Step], functions: dict[Any, int], x: Occurrence, sign: int
    ) -> None:
        self.facts, self.made, self.functions = facts, made, functions
        self.known: dict[int, Polynomial] = {x.number: self.opaque("x", Fraction(sign))}

    def of(self, one: Occurrence) -> Polynomial:
        if one.number not in self.known:
            found = self._of(one)
            if len(found) > MOST_TERMS:
                raise _Unclear
            self.known[one.number] = {product: factor for product, factor in found.items() if factor}
        return self.known[one.number]

    def opaque(self, function: Any, factor: Fraction = Fraction(1)) -> Polynomial:
        return {(self.functions.setdefault(function, len(self.functions)),): factor}

    def _of(self, one: Occurrence) -> Polynomial:
        if (scalar := self.facts.scalars.get(one.number)) is not None:
            if not math.isfinite(scalar):
                raise _Unclear
            return {ONE: Fraction(scalar)}
        step = self.made[one.number]
        if is_constant(self.facts, self.made, one):
            return self.opaque(one.number)
        if step.name == "convert_element_type":
            return self._converted(step)
        if not (all(_is_number(value) for value in step.ins) or step.name in LOGIC):
            raise _Unclear
        return self._made(step.name, step, [self.of(value) for value in step.ins])

    def _made(self, name: str, step: Step, values: list[Polynomial]) -> Polynomial:
        first, *rest = values
        match name:
            case "add" | "add_any":
                return _sum(first, rest[0])
            case "sub":
                return _sum(first, _times(rest[0], -ALL))
            case "neg":
                return _times(first, -ALL)
            case "mul" | "and":
                return self.product(first, rest[0])
            case "or":
                return _sum(_sum(first, rest[0]), _times(self.product(first, rest[0]), -ALL))
            case "not":
                return _sum({ONE: ALL}, _times(first, -ALL))
            case "div" if jnp.issubdtype(step.outs[0].dtype, jnp.inexact):
                return self.product(first, self.inverse(rest[0]))
            case "square":
                return self.product(first, first)
            case "integer_pow" if step.eqn.params["y"] == 2:
                return self.product(first, first)
            case "max" | "min":
                size = self.size(_sum(first, _times(rest[0], -ALL)))
                return _times(_sum(_sum(first, rest[0]), _times(size, ALL if name == "max" else -ALL)), HALF)
            case "abs":
                return self.size(first)
            case "logistic":
                return _sum({ONE: HALF}, _times(self.odd("logistic", first), HALF))
            case "select_n" if len(rest) == 2:
                # the first of them where the condition does not hold
                return _sum(rest[0], self.product(first, _sum(rest[1], _times(rest[0], -ALL))))
            case "gt" | "lt" | "ge" | "le":
                return self.order(name, first, rest[0])
            case "eq" | "ne":
                _, apart = _by_sign(_sum(first, _times(rest[0], -ALL)))
                same = self.opaque(("same", apart))
                return same if name == "eq" else _sum({ONE: ALL}, _times(same, -ALL))
            case _ if name in SAME:
                return first
            case _ if name in ODD.split() or name in LINEAR or name == "sign":
                return self.odd(name, first)
            case _ if name in EVEN.split():
                return self.opaque((name, _by_sign(first)[1]))
            case _ if name in OTHERS:
                return self.opaque((name, _key(first)))
        raise _Unclear

    def _converted(self, step: Step) -> Polynomial:
        """Truth values are 0 and 1; of a float the bit of its sign is its first."""
        (value,), (out,) = step.ins, step.outs
        if out.dtype == np.bool_ and (looked_at := self._of_bit(value)) is not None:
            sign, argument = _by_sign(self.of(looked_at))
            bit = self.opaque(("bit", argument))
            return bit if sign > 0 else _sum({ONE: ALL}, _times(bit, -ALL))
        if out.dtype == np.bool_ or not (_is_number(out) or value.dtype == np.bool_):
            raise _Unclear
        if jnp.issubdtype(value.dtype, jnp.inexact) and not jnp.issubdtype(out.dtype, jnp.inexact):
            raise _Unclear
        return self.of(value)

    def _of_bit(self, one: Occurrence) -> Occurrence | None:
        shift = self.made.get(one.number)
        if shift is None or shift.name not in SHIFTS:
            return None
        cast, count = self.made.get(shift.ins[0].number), self.facts.scalars.get(shift.ins[1].number)
        if cast is None or cast.name != "bitcast_convert_type" or count != 8 * one.dtype.itemsize - 1:
            return None
        return cast.ins[0]

    def odd(self, name: str, argument: Polynomial) -> Polynomial:
        sign, shown = _by_sign(argument)
        return self.opaque((name, shown), sign)

    def size(self, argument: Polynomial) -> Polynomial:
        """Of a multiple it is the multiple."""
        if not argument:
            return {}
        factor = abs(argument[min(argument)])
        return self.opaque(("abs", _by_sign(_times(argument, 1 / factor))[1]), factor)

    def inverse(self, argument: Polynomial) -> Polynomial:
        if argument.keys() == {ONE}:
            return {ONE: 1 / argument[ONE]}
        return self.odd("inverse", argument)

    def order(self, name: str, one: Polynomial, other: Polynomial) -> Polynomial:
        """Whether one is the larger; at least as large is what the other is not."""
        if name in ("lt", "ge"):
            one, other = other, one
        sign, apart = _by_sign(_sum(one, _times(other, -ALL)))
        found = self.opaque(("above" if sign > 0 else "below", apart))
        return found if name in ("gt", "lt") else _sum({ONE: ALL}, _times(found, -ALL))

    def product(self, one: Polynomial, other: Polynomial) -> Polynomial:
        out: Polynomial = {}
        for left, factor in one.items():
            for right, times in other.items():
                for product, sign in self._joined(left, right):
                    out[product] = out.get(product, Fraction(0)) + sign * factor * times
        return out

    def _joined(self, left: Product, right: Product) -> list[tuple[Product, int]]:
        """A product of two; where a value is above or below zero it is itself, for there is nothing of it elsewhere."""
        if len(left) + len(right) > MOST_FACTORS:
            raise _Unclear
        names = list(self.functions)
        together = sorted((*left, *right))
        for number in dict.fromkeys(together):
            name = names[number]
            if isinstance(name, tuple) and name[0] in ("above", "below", "same", "bit"):
                # true and true is true
                together = [k for k in together if k != number] + [number]
        for number in together:
            name = names[number]
            if isinstance(name, tuple) and name[0] == "below" and name[1] in [(((k,), ALL),) for k in together]:
                above = self.functions.setdefault(("above", name[1]), len(self.functions))
                rest = tuple(sorted(k for k in together if k != number))
                return [(rest, 1), (tuple(sorted((*rest, above))), -1)]
        return [(tuple(sorted(together)), 1)]


def _is_number(one: Occurrence) -> bool:
    """Of which there are negative ones."""
    numbers, no_sign = jnp.number, jnp.unsignedinteger
    return one.dtype is None or (jnp.issubdtype(one.dtype, numbers) and not jnp.issubdtype(one.dtype, no_sign))


def _sum(one: Polynomial, other: Polynomial) -> Polynomial:
    total = {product: one.get(product, Fraction(0)) + other.get(product, Fraction(0)) for product in {**one, **other}}
    return {product: factor for product, factor in total.items() if factor}


def _times(one: Polynomial, factor: Fraction) -> Polynomial:
    return {product: factor * value for product, value in one.items()}


def _key(one: Polynomial) -> tuple[tuple[Product, Fraction], ...]:
    return tuple(sorted(one.items()))


def _by_sign(one: Polynomial) -> tuple[Fraction, tuple]:
    """The sign of the first term, and the polynomial without it."""
    sign = -ALL if one and one[min(one)] < 0 else ALL
    return sign, _key(_times(one, sign))
