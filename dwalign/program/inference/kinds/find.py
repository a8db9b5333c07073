"""From the equations of a program to the kind of every group and the powers of every place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dwalign.program.inference.atoms import Atom
from dwalign.program.inference.facts import Facts, Occurrence, Step, reason_of
from dwalign.program.inference.groups import Groups
from dwalign.program.inference.kinds.clips import with_clips
from dwalign.program.inference.kinds.fills import fix_fills
from dwalign.program.inference.kinds.parity import mirrored
from dwalign.program.inference.kinds.polynomials import multiplied_out
from dwalign.program.inference.kinds.rules import apply_rule, as_a_whole
from dwalign.program.inference.kinds.solve import BINARY, RATIONAL, Vector, all_ones, first_without, null_space
from dwalign.program.inference.kinds.unknowns import Unknowns
from dwalign.program.inference.kinds.zeros import note_zeros
from dwalign.program.inference.walk import MOVES
from dwalign.symmetry.axes import Axes
from dwalign.symmetry.powers import Power, power_text

# a place of the notation of one array: the name, the dimension, and its number there
Place = tuple[str, int, int]


class Kinds(NamedTuple):
    """Attributes:
    axes: of every parameter, with powers.
    kinds: of every group, by name.
    bounds: for each group what it is not and why.
    """

    axes: list[Axes]
    kinds: dict[str, str]
    bounds: dict[str, str]


def find_kinds(facts: Facts, groups: Groups, axes: Sequence[Axes]) -> Kinds:
    """The largest kind of every group; `axes` is the notation of the parameters."""
    u = Unknowns(facts, dict(_standing_for(groups)))
    # the parameters are the first values of all
    places = [_places(u, one, written) for one, written in zip(facts.occurrences, axes, strict=False)]
    steps = multiplied_out(facts, with_clips(facts))
    whole = mirrored(facts, steps)
    hidden = {number for one in whole.values() for number in one.between}
    for step in steps:
        number = step.outs[0].number if step.outs else None
        if number in hidden or number in whole:
            u.without_signs(apply_rule, step)
        else:
            apply_rule(u, step)
        if number in whole:
            as_a_whole(u, step, whole[number])
        note_zeros(u, step)
    fix_fills(u, steps)
    # the factors of a group are those of what is batched over it
    inner = {h: [groups.names[g] for g, batch in groups.batch.items() if h in batch] for h in groups.batch}
    kinds, bounds, powers = {}, {}, {}
    # what is used first has the power 1: it writes the units, and others read them
    used = _first_used(facts.steps)
    order = sorted(range(len(places)), key=lambda k: used.get(facts.occurrences[k].number, len(facts.steps)))
    for group in groups.batch:
        name = groups.names[group]
        own = list(dict.fromkeys(places[k][key] for k in order for key in places[k] if key[0] == name))
        if inner[group]:
            kinds[name], bounds[name] = "permutation", f"its factors are those of {', '.join(inner[group])}"
        else:
            kinds[name], bounds[name], found = _kind(u, name, own)
            powers |= found

    def written(place: Mapping[Place, int]):
        def rename(*key):
            text = power_text(powers.get(place.get(key, 0), Power()))
            return f"{key[0]}^{text}" if text else key[0]

        return rename

    return Kinds([one.relabelled(written(at)) for one, at in zip(axes, places, strict=True)], kinds, bounds)


def _first_used(steps: Sequence[Step]) -> dict[int, int]:
    """For each value, by its number, the step that first computes with it; to move or hand it on is no use of it."""
    first: dict[int, int] = {}
    for k, step in reversed(list(enumerate(steps))):
        handed = [first[one.number] for one in step.outs if one.number in first]
        at = min(handed, default=k) if step.name == "link" or step.name in MOVES else k
        first |= {one.number: at for one in step.ins}
    return first


def _standing_for(groups: Groups) -> Iterator[tuple[Atom, str | None]]:
    """Leaves with the name of their group; of several that were merged into one the first stands for it."""
    parts = {whole: pair for pair, whole in groups.merged.items()}

    def constituents(leaf):
        return [one for part in parts[leaf] for one in constituents(part)] if leaf in parts else [leaf]

    for group in groups.batch:
        first, *others = constituents(group)
        yield first, groups.names[group]
        yield from ((other, None) for other in others)


def _places(u: Unknowns, one: Occurrence, axes: Axes) -> dict[Place, int]:
    """The unknown of each place of the notation."""
    written: dict[tuple[str, int], int] = {}

    def count(name, d, k):
        written[name, d] = k + 1
        return name

    axes.relabelled(count)
    out: dict[Place, int] = {}
    for (name, d), number in written.items():
        found = [slot for slot in u.slots(one)[d] if slot.group == name]
        if len(found) != number:
            # the notation has taken sums apart: all its places are one
            for slot in found[1:]:
                u.same(found[0], slot)
            found = found[:1] * number
        out |= {(name, d, k): slot.unknown for k, slot in enumerate(found)}
    return out


def _kind(u: Unknowns, name: str, own: Sequence[int]) -> tuple[str, str, dict[int, Power]]:
    scaled, signed = (equations.rows.get(name, []) for equations in (u.scale, u.sign))
    scale, sign = null_space(u.scale, scaled, own, RATIONAL), null_space(u.sign, signed, own, BINARY)
    touched = u.touched.get(name)
    if touched is None and (dual := _dual(scale)) is not None:
        return "linear", "", {unknown: Power((value,)) for unknown, value in zip(own, dual, strict=True)}
    if touched is None and all_ones(u.sign, signed, own):
        no_dual = first_without(u.scale, scaled, own, RATIONAL)
        return "orthogonal", _bound("linear", no_dual and no_dual.step), {}
    kind = {(False, False): "permutation", (True, False): "scale", (False, True): "sign"}.get(
        (bool(scale), bool(sign)), "monomial"
    )
    bounds = [_bound("orthogonal" if touched else "orthogonal, for it is not on all places alike", touched)]
    if not sign and (row := first_without(u.sign, signed, own, BINARY)) is not None:
        bounds.append(_bound("sign", row.step))
    if not scale and (row := first_without(u.scale, scaled, own, RATIONAL)) is not None:
        bounds.append(_bound("scale", row.step))
    powers = {
        unknown: Power(tuple(vector[k] for vector in scale), tuple(int(vector[k]) for vector in sign))
        for k, unknown in enumerate(own)
    }
    return kind, "; ".join(bounds), powers if scale or sign else {}


def _dual(scale: Sequence[Vector]) -> Vector | None:
    """Powers of 1 and -1 alone."""
    return next((vector for vector in scale if all(abs(value) == 1 for value in vector)), None)


def _bound(what: str, step: Step | None) -> str:
    if step is None:
        return f"no {what}"
    # as a norm's gain does
    return f"no {what}: {reason_of(step.eqn, step.calls, 'unit by unit' if step.name == 'mul' else '')}"
