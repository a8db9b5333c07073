"""Values kept between opposite bounds: this is odd as a whole, though none of the steps that programs write it in is.

`clip(x, -c, c)` is the smaller of c and the larger of -c and x, in either order, or two choices. Where nothing else
looks at what is in between, all of it is one step, as long as c is known not to be negative: otherwise the result is c
itself.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dwalign.program.inference.atoms import find, is_uniform
from dwalign.program.inference.facts import Facts, Occurrence, Step

SHOWN = {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "squeeze", "stop_gradient"}
POSITIVE = {"abs", "cosh", "exp", "exp2", "logistic", "sqrt", "square"}
# whoever is past a bound becomes that bound
PAST = {"gt": "min", "ge": "min", "lt": "max", "le": "max"}
Parts = tuple[Occurrence, Occurrence, Occurrence, Sequence[Occurrence]]


class Bounded(NamedTuple):
    """A value is `rest`, or `bound` where that is past it: the smaller of both for "min".

    `tests` say where, and of what value.
    """

    name: str
    bound: Occurrence
    rest: Occurrence
    tests: Sequence[tuple[Occurrence, Occurrence]]


def with_clips(facts: Facts) -> list[Step]:
    """The steps of a program, those that keep a value between opposite bounds as one, `clip(lower, x, upper)`."""
    used = Counter(one.number for step in facts.steps for one in step.ins)
    steps: list[Step] = []
    gone: set[int] = set()
    for step in reversed(facts.steps):
        if any(out.number in gone for out in step.outs):
            continue
        for lower, x, upper, between in _parts(facts, step):
            if _are_opposite(facts, lower, upper) and all(used[value.number] == 1 for value in between):
                gone |= {value.number for value in between}
                step = step._replace(name="clip", ins=[lower, x, upper])
                break
        steps.append(step)
    return steps[::-1]


def _parts(facts: Facts, step: Step) -> Iterator[Parts]:
    """How a step may be one that keeps a value between bounds: the lower, the value, the upper, what is in between."""
    if step.name == "clamp":
        lower, x, upper = step.ins
        yield lower, x, upper, ()
    for (name, bound, inner, tests), (other, far, x, more) in _nested(facts, step):
        if name != other and all(value.number == x.number for _, value in (*tests, *more)):
            lower, upper = (far, bound) if name == "min" else (bound, far)
            yield lower, x, upper, (inner, *(test for test, _ in (*tests, *more)))


def _nested(facts: Facts, step: Step) -> Iterator[tuple[Bounded, Bounded]]:
    for outer in _bounded(facts, step.name, step.ins):
        if (origin := outer.rest.origin) is not None:
            yield from ((outer, inner) for inner in _bounded(facts, origin.primitive, origin.operands))


def _bounded(facts: Facts, name: str, ins: Sequence[Occurrence]) -> Iterator[Bounded]:
    """How a value may be another one, or a bound past it: `max(bound, x)`, or `where(x < bound, bound, x)`."""
    if name in ("max", "min"):
        yield from (Bounded(name, bound, x, ()) for bound, x in (ins, ins[::-1]))
    elif name == "select_n" and len(ins) == 3 and (origin := ins[0].origin) is not None:
        which, rest, bound = ins
        past = _number(facts, bound)
        if origin.primitive in PAST and past is not None and past == _number(facts, origin.operands[1]):
            yield Bounded(PAST[origin.primitive], bound, rest, ((which, origin.operands[0]),))


def _are_opposite(facts: Facts, lower: Occurrence, upper: Occurrence) -> bool:
    low, high = _number(facts, lower), _number(facts, upper)
    if low is not None and high is not None:
        return low == -high and high >= 0
    negative, shown = _shown(lower).origin, [_layout(one) for one in (lower, upper)]
    if negative is None or negative.primitive != "neg" or shown[0] != shown[1]:
        return False
    size = _shown(upper)
    return (
        _shown(negative.operands[0]).number == size.number
        and size.origin is not None
        and (size.origin.primitive in POSITIVE)
    )


def _shown(one: Occurrence) -> Occurrence:
    """What a value shows in another type or shape."""
    while one.origin is not None and one.origin.primitive in SHOWN:
        one = one.origin.operands[0]
    return one


def _number(facts: Facts, one: Occurrence) -> float | None:
    return facts.scalars.get(_shown(one).number)


def _layout(one: Occurrence) -> list:
    return [atom.size if atom is None or is_uniform(atom) else find(atom) for atom in one.dims if atom is not None]
