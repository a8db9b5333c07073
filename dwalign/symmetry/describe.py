"""A spec as people read it."""

from collections.abc import Sequence

from dwalign.symmetry.spec import PermutationSpec


def describe(spec: PermutationSpec) -> str:
    """Tables: the groups, the arrays that carry them, and what is fixed and why; of kinds, why they are no larger.

    >>> from dwalign.symmetry import Axes, PermutationSpec
    >>> print(describe(PermutationSpec({"w": Axes(None, "h0")}, {"h0": 3})))
    group  units  batched over  arrays
    h0     3                    1
    <BLANKLINE>
    array  axes
    ['w']  _, h0
    >>> axes, bounds = {"up": Axes(None, "h"), "down": Axes("h^-1", None)}, {"h": "no sign: max at mlp.py:22"}
    >>> print(describe(PermutationSpec(axes, {"h": 3}, kinds={"h": "scale"}, bounds=bounds)))
    group  kind   units  batched over  arrays
    h      scale  3                    2
    <BLANKLINE>
    array     axes
    ['down']  h^-1, _
    ['up']    _, h
    <BLANKLINE>
    group  why its kind is no larger
    h      no sign: max at mlp.py:22
    """
    carriers = {g: sum(g in axes.names() for axes in spec.leaves) for g in spec.sizes}
    own = lambda kind: (kind,) if spec.has_kinds else ()
    over = lambda g: ", ".join(f"{h} ({spec.size(h)})" for h in spec.batch.get(g, ()))
    groups = [(g, *own(spec.kinds[g]), str(n), over(g), str(carriers[g])) for g, n in spec.sizes.items()]
    role = lambda path: "statistic" if path in spec.statistics else ""
    arrays = [(path, str(axes), role(path)) for path, axes in zip(spec.paths, spec.written, strict=True)]
    tables = [
        _table(("group", *own("kind"), "units", "batched over", "arrays"), groups),
        _table(("array", "axes", "role" if spec.statistics else ""), arrays),
    ]
    if bounds := [(g, why) for g, why in spec.bounds.items() if why]:
        tables.append(_table(("group", "why its kind is no larger"), bounds))
    if spec.notes:
        notes = [(note.path, str(note.dimension), str(note.size), note.why) for note in spec.notes]
        tables.append(_table(("fixed", "dimension", "size", "why"), notes))
    if spec.unknown:
        tables.append(_table(("primitive without a rule", "first met"), list(spec.unknown.items())))
    return "\n\n".join(tables)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)
