"""The powers in what is written of a spec's arrays: `"h0^-1"` is the group h0 with the power -1."""

from typing import TYPE_CHECKING, Any

from dwalign.symmetry.axes import Axes, SpecError
from dwalign.symmetry.powers import Power, parse_power, power_text, split_name

if TYPE_CHECKING:
    from dwalign.symmetry.spec import PermutationSpec


def without_powers(axes: Any) -> Any:
    return axes.relabelled(lambda factor, *_: split_name(factor)[0]) if isinstance(axes, Axes) else axes


def read_powers(spec: "PermutationSpec", path: str, axes: Axes) -> tuple[tuple[Power, ...], ...]:
    """For each block of a leaf those of its factors; () where no group has any."""
    if not any(spec.kinds[name] != "permutation" for name in without_powers(axes).names() & set(spec.sizes)):
        return ()

    def power(factor):
        name, text = split_name(factor) if isinstance(factor, str) else ("", "")
        try:
            return parse_power(spec.kinds.get(name, "permutation"), text or "1")
        except (ValueError, ZeroDivisionError) as error:
            raise SpecError(
                f"spec: {path} is {axes!r}, but {text!r} is no power of a group of kind {spec.kinds.get(name)!r}"
            ) from error

    return tuple(tuple(map(power, factors)) for factors in axes.blocks())


def spelled(spec: "PermutationSpec", axes: Axes) -> Axes:
    def spell(factor, *_):
        name, text = split_name(factor)
        if spec.kinds.get(name, "permutation") == "permutation":
            return name
        return f"{name}^{power_text(parse_power(spec.kinds[name], text or '1'))}".removesuffix("^")

    return axes.relabelled(spell)


def count_directions(spec: "PermutationSpec") -> dict[str, tuple[int, int]]:
    """For each group how many independent scales and signs it has."""
    found: dict[str, tuple[int, int]] = {}
    for path, axes, powers in zip(spec.paths, spec.leaves, spec.powers, strict=True):
        for factors, block in zip(axes.blocks() if powers else (), powers, strict=True):
            for factor, power in zip(factors, block, strict=True):
                count = len(power.scale), len(power.sign)
                if factor in spec.sizes and found.setdefault(str(factor), count) != count:
                    raise SpecError(
                        f"spec: group {factor!r} must have a power for each of its directions everywhere, but "
                        f"{path} has {count} (scales, signs) and an array before it {found[str(factor)]}"
                    )
    return {g: found.get(g, (0, 0)) for g in spec.sizes}
