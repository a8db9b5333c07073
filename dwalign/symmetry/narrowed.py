"""The same spec of other kinds, powers or statistics.

The same object for the same question: what is kept for a spec is found by its identity, which costs nothing.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dwalign.symmetry.axes import Axes
from dwalign.symmetry.powers import SCALED, SIGNED, Power, parse_power, power_text, split_name

if TYPE_CHECKING:
    from dwalign.symmetry.spec import PermutationSpec


@functools.lru_cache(256)
def narrowed(spec: "PermutationSpec", names: tuple[str, ...]) -> "PermutationSpec":
    kinds = {g: _part(kind, names) for g, kind in spec.kinds.items()}

    def part(group, power):
        kind = kinds[group]
        return Power(power.scale if kind in SCALED else (), power.sign if kind in SIGNED else ())

    return _with_powers(spec, kinds, part)


@functools.lru_cache(256)
def with_signs(spec: "PermutationSpec", flipped: tuple) -> "PermutationSpec":
    directions = dict(flipped)
    kinds = {g: kind if directions.get(g, (0,)) else "permutation" for g, kind in spec.kinds.items()}

    def combined(group, power):
        if group not in directions:
            return power
        odd = (sum(x * y for x, y in zip(row, power.sign, strict=True)) % 2 for row in directions[group])
        return Power(power.scale, tuple(odd))

    return _with_powers(spec, kinds, combined) if directions else spec


def _with_powers(
    spec: "PermutationSpec", kinds: Mapping[str, str], change: Callable[[str, Power], Power]
) -> "PermutationSpec":
    """The same spec with these kinds, and powers that `change(group, power)` gives."""

    def changed(factor, *_):
        name, text = split_name(factor)
        if spec.kinds.get(name, "permutation") == "permutation":
            return factor
        power = parse_power(spec.kinds[name], text or "1")
        new = change(name, power)
        return factor if new == power else f"{name}^{power_text(new)}".removesuffix("^")

    bounds = spec.bounds if kinds == spec.kinds else None
    return like(spec, [axes.relabelled(changed) for axes in spec.written], kinds=kinds, bounds=bounds)


def like(spec: "PermutationSpec", written: Sequence[Axes], **changes: Any) -> "PermutationSpec":
    """The spec with these axes, and with these parts in place of its own."""
    parts = ("batch", "fixed", "kinds", "statistics", "notes", "unknown", "bounds", "reading")
    kept = {name: getattr(spec, name) for name in parts}
    return type(spec)(spec.treedef.unflatten(written), spec.sizes, **{**kept, **changes})


def _part(kind: str, names: Collection[str]) -> str:
    """What is left of a kind where only these are wanted."""
    of = {"monomial": ("sign", "scale"), "linear": ("orthogonal",)}
    parts = [name for name in of.get(kind, ()) if name in names]
    return kind if kind in names or len(parts) == 2 else parts[0] if parts else "permutation"
