"""Which arrays share which group, as a picture."""

from collections.abc import Mapping
from typing import Any

from dwalign.report.figures import File, _pyplot, _save
from dwalign.symmetry import PermutationSpec


def make_sharing(spec: PermutationSpec) -> dict[str, Any]:
    """What `draw_sharing` takes, as JSON values: the groups, and the dimensions on which each array carries them."""
    carried = lambda axes, group: [d for d in range(len(axes.dims)) if group in axes.carried(d)]
    arrays = {
        _short(path): {group: found for group in spec.sizes if (found := carried(axes, group))}
        for path, axes in zip(spec.paths, spec.leaves, strict=True)
    }
    groups = {g: {"units": n, "in": list(spec.batch.get(g, ()))} for g, n in spec.sizes.items()}
    return {"groups": groups, "arrays": arrays}


def sharing_figure(spec: PermutationSpec, file: File) -> None:
    """Arrays against groups: a mark where an array carries a group, with the dimensions on which it does.

    Groups that are batched over others, or over fixed factors, name them below.
    """
    draw_sharing(make_sharing(spec), file)


def draw_sharing(sharing: Mapping[str, Any], file: File) -> None:
    """`sharing_figure` of what `make_sharing` found."""
    groups, arrays = sharing["groups"], sharing["arrays"]
    # at least as wide as the title
    width, height = max(6.0, 3.5 + 0.55 * len(groups)), 1.2 + 0.22 * len(arrays)
    figure, axis = _pyplot().subplots(figsize=(width, height), layout="constrained")
    colours = _pyplot().get_cmap("tab10")
    for row, carried in enumerate(arrays.values()):
        for column, group in enumerate(groups):
            if group in carried:
                axis.plot(column, row, "s", markersize=11, color=colours(column % 10))
                text = ",".join(map(str, carried[group]))
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white")
    names = []
    for group, found in groups.items():
        over = ", ".join(found["in"])
        names.append(f"{group}\n{found['units']}" + (f"\nin {over}" if over else ""))
    axis.set_xticks(range(len(groups)), names, fontsize=8)
    axis.set_yticks(range(len(arrays)), arrays, fontsize=7)
    axis.set(xlim=(-0.6, len(groups) - 0.4), ylim=(len(arrays) - 0.4, -0.6))
    axis.xaxis.tick_top()
    axis.grid(color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title("arrays and the groups they carry (units below the name, dimensions in the squares)", fontsize=8)
    _save(figure, file)


def _short(path: str) -> str:
    return "/".join(part.strip("'") for part in path.strip("[]").split("]["))
