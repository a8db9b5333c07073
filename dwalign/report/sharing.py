"""Which arrays share which group, as a picture."""

from pathlib import Path

from dwalign.report.figures import _pyplot, _save
from dwalign.symmetry import PermutationSpec


def sharing_figure(spec: PermutationSpec, file: str | Path) -> None:
    """Arrays against groups: a mark where an array carries a group, with the dimensions on which it does.

    Groups that are batched over others, or over fixed factors, name them below.
    """
    groups = list(spec.sizes)
    width, height = 3.5 + 0.55 * len(groups), 1.2 + 0.22 * len(spec.paths)
    figure, axis = _pyplot().subplots(figsize=(width, height), layout="constrained")
    colours = _pyplot().get_cmap("tab20")
    for row, axes in enumerate(spec.leaves):
        for column, group in enumerate(groups):
            found = [d for d in range(len(axes.dims)) if group in axes.carried(d)]
            if found:
                axis.plot(column, row, "s", markersize=11, color=colours(column % 20))
                text = ",".join(map(str, found))
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color="white")
    names = []
    for group in groups:
        over = ", ".join(spec.batch.get(group, ()))
        names.append(f"{group}\n{spec.sizes[group]}" + (f"\nin {over}" if over else ""))
    axis.set_xticks(range(len(groups)), names, fontsize=8)
    axis.set_yticks(range(len(spec.paths)), [_short(path) for path in spec.paths], fontsize=7)
    axis.set(xlim=(-0.6, len(groups) - 0.4), ylim=(len(spec.paths) - 0.4, -0.6))
    axis.xaxis.tick_top()
    axis.grid(color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_title("arrays and the groups they carry (units below the name, dimensions in the squares)", fontsize=8)
    _save(figure, file)


def _short(path: str) -> str:
    return "/".join(part.strip("'") for part in path.strip("[]").split("]["))
