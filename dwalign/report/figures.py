"""Results as pictures (matplotlib): curves along the path, a cost matrix, training, quality against time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.report.tables import display_name

COLOURS = {
    "naive": "#9a9a9a",
    "weight_matching": "#4878a8",
    "activation_matching": "#7fb069",
    "activation_matching_correlation": "#3c7a3c",
    "straight_through": "#b89b4a",
    "sinkhorn": "#8e6bb0",
    "refine": "#5bb3b0",
    "deep_align": "#d1495b",
}


def colour(method: str) -> str:
    """One colour a method in all figures; compositions take that of their start."""
    return COLOURS.get(method.split("+")[0].split("@")[0], "#333333")


def interpolation_figure(results: Mapping[str, Any], file: str | Path, methods: Sequence[str] | None = None) -> None:
    """Loss and accuracy along the path, means over pairs and seeds."""
    methods = [m for m in (methods or results["methods"]) if m in results["methods"]]
    figure, (left, right) = _pyplot().subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for method in methods:
        line = results["methods"][method]["curve"]
        style = {"color": colour(method), "linestyle": "--" if "+" in method else "-", "linewidth": 1.8}
        left.plot(line["lambdas"], line["loss"], label=display_name(method), **style)
        right.plot(line["lambdas"], line["accuracy"], **style)
    for axis, label in ((left, "test loss"), (right, "test accuracy")):
        axis.set(xlabel="λ  (0: network a, 1: aligned network b)", ylabel=label)
    left.set_yscale("log")
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    _save(figure, file)


def quality_figure(results: Mapping[str, Any], file: str | Path) -> None:
    """Barrier against seconds a pair."""
    figure, axis = _pyplot().subplots(figsize=(8.5, 5), layout="constrained")
    for method, values in results["methods"].items():
        if method == "naive":
            continue
        x, y = values["seconds_per_pair"]["mean"], values["barrier"]["mean"]
        axis.scatter(x, y, color=colour(method), s=36, zorder=3)
        axis.annotate(display_name(method), (x, y), xytext=(6, 3), textcoords="offset points", fontsize=8)
    axis.set(xscale="log", yscale="log", xlabel="seconds a pair", ylabel="barrier", title=results["experiment"])
    axis.margins(x=0.25)
    _save(figure, file)


def matrix_figure(scores: Mapping[str, np.ndarray], perms: Mapping[str, np.ndarray], file: str | Path) -> None:
    """The scores of each group with b in its own order, and in the order of the assignment."""
    figure, axes = _pyplot().subplots(
        2, len(scores), figsize=(3.1 * len(scores), 6.2), layout="constrained", squeeze=False
    )
    for column, (group, matrix) in enumerate(scores.items()):
        matrix, perm = np.asarray(matrix), np.asarray(perms[group])
        for row, (shown, title) in enumerate([(matrix, "units of b as they are"), (matrix[:, perm], "b aligned")]):
            axes[row, column].imshow(shown, cmap="magma", interpolation="nearest")
            axes[row, column].set(title=f"{group}: {title}", xticks=[], yticks=[])
            axes[row, column].title.set_fontsize(9)
        axes[0, column].scatter(
            perm, np.arange(len(perm)), s=9, facecolors="none", edgecolors="#7ee0ff", linewidths=0.8
        )
    axes[0, 0].set_ylabel("units of a")
    axes[1, 0].set_ylabel("units of a")
    _save(figure, file)


def training_figure(metrics: Sequence[Sequence[Mapping[str, float]]], file: str | Path) -> None:
    """The losses and the validation barrier of each aligner seed, from `metrics.jsonl`."""
    names = [name for name in metrics[0][0] if name != "step" and any(row[name] for row in metrics[0])]
    figure, axes = _pyplot().subplots(1, len(names), figsize=(3.2 * len(names), 3), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for seed, run in enumerate(metrics):
            axis.plot([row["step"] for row in run], [row[name] for row in run], label=f"seed {seed}")
        axis.set(title=name.replace("_", " "), xlabel="step")
    if len(metrics) > 1:
        axes[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, file)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "font.size": 10})
    return plt


def _save(figure, file):
    figure.savefig(file, dpi=150)
    _pyplot().close(figure)
