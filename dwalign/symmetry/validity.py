"""What must hold of a spec by itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dwalign.symmetry.axes import Axes, SpecError
from dwalign.symmetry.fitting import first_few
from dwalign.symmetry.powers import KINDS

if TYPE_CHECKING:
    from dwalign.symmetry.spec import PermutationSpec


def check_names(spec: "PermutationSpec", kinds: Mapping[str, str]) -> None:
    known = {**spec.fixed, **spec.sizes}
    if strange := {g: kind for g, kind in kinds.items() if g not in spec.sizes or kind not in KINDS}:
        raise SpecError(f"spec: kinds must map groups of sizes to one of {KINDS}, found {strange}")
    if wrong := sorted(g for g in spec.outer if spec.kinds[g] != "permutation"):
        raise SpecError(
            f"spec: other groups are batched over {wrong}, which must be of kind 'permutation': the factors of "
            "these are theirs"
        )
    if both := set(spec.sizes) & set(spec.fixed):
        raise SpecError(f"spec: {sorted(both)} must be in sizes (permuted) or in fixed (not permuted), found in both")
    for name, size in known.items():
        if size < 1:
            raise SpecError(f"spec: {name!r} must have a positive size, found {size}")
        if Axes.parse(name) != Axes(name) or name != name.strip():
            raise SpecError(f"spec: {name!r} cannot be a name: it must not be a number, '_', or hold any of '*+, '")
    for group, names in spec.batch.items():
        if group not in spec.sizes or not set(names) <= set(known):
            raise SpecError(
                f"spec: batch {group!r}: {names} must map a group of sizes to names of sizes or fixed; "
                f"these have {sorted(known)}"
            )
        outer = {h: set(spec.batch.get(h, ())) for h in names}
        if group in names or len(outer) < len(names) or any(group in of for of in outer.values()):
            raise SpecError(f"spec: batch {group!r}: {names} must name other factors, each once and without a circle")
        for h, of in outer.items():
            if missing := of - set(names):
                raise SpecError(
                    f"spec: batch {group!r}: {names} names {h!r}, which is itself batched over {sorted(of)}; "
                    f"add {sorted(missing)}"
                )


def check_leaves(spec: "PermutationSpec") -> None:
    known = set(spec.sizes) | set(spec.fixed)
    for path, leaf in zip(spec.paths, spec.leaves, strict=True):
        if not isinstance(leaf, Axes):
            raise SpecError(f"spec: every leaf must be an Axes, but {path} is {leaf!r}")
        if unknown := leaf.names() - known:
            raise SpecError(
                f"spec: {path} is {leaf!r}, but sizes has no entry for {sorted(unknown)}; it has {sorted(known)}"
            )
        for factors in leaf.blocks():
            for group in (group for group in spec.batch if group in factors):
                if wrong := [h for h in spec.batch[group] if factors.count(h) != 1]:
                    raise SpecError(
                        f"spec: group {group!r} is batched over {spec.batch[group]}, so wherever it occurs each of "
                        f"these must occur once, but {path} ({leaf}) has {wrong} never or twice beside it"
                    )
    if strange := spec.statistics - set(spec.paths):
        raise SpecError(
            f"spec: statistics must be paths of arrays, found {sorted(strange)}, but the arrays are "
            f"{first_few(spec.paths)}"
        )
    ranks = {path: len(leaf.dims) for path, leaf in zip(spec.paths, spec.leaves, strict=True)}
    for path, order in spec.reading.items():
        if sorted(order) != list(range(ranks.get(path, -1))):
            raise SpecError(
                f"spec: reading must map paths of arrays to an order of all their dimensions, found {path!r}: {order}"
            )
    if unused := set(spec.sizes) - set().union(*(leaf.names() for leaf in spec.leaves)):
        raise SpecError(f"spec: no array carries the groups {sorted(unused)}; remove them from sizes")
