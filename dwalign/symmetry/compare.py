"""Two specs of one architecture that differ in nothing but names."""

from dwalign.symmetry.spec import PermutationSpec


def correspondence(spec: PermutationSpec, other: PermutationSpec) -> dict[str, str] | None:
    """The names of `other` for those of `spec` if both describe the same symmetries, otherwise None.

    Kinds and powers must agree too, directions in their order.

    >>> from dwalign.symmetry import Axes
    >>> one = PermutationSpec({"w": Axes(None, "h0")}, {"h0": 3})
    >>> correspondence(one, PermutationSpec({"w": Axes(None, "units")}, {"units": 3}))
    {'h0': 'units'}
    """
    names: dict[str, str] = {}
    if (spec.treedef, spec.statistics, spec.powers) != (other.treedef, other.statistics, other.powers):
        return None
    for one, two in zip(spec.leaves, other.leaves, strict=True):
        flat = ([f for factors in axes.blocks() for f in factors] for axes in (one, two))
        for mine, yours in zip(*flat, strict=False):
            if isinstance(mine, str) and isinstance(yours, str) and names.setdefault(mine, yours) != yours:
                return None
        if one.renamed(names) != two:
            return None
    agree = len(set(names.values())) == len(names) and all(
        spec.kinds.get(name) == other.kinds.get(names[name])
        and spec.size(name) == other.size(names[name])
        and {names[h] for h in spec.batch.get(name, ())} == set(other.batch.get(names[name], ()))
        for name in names
    )
    return names if agree else None
