"""Results as pictures (matplotlib): curves along the path, a cost matrix, training, quality against time."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.extras import load
from dwalign.report.labels import place_labels
from dwalign.report.methods import colour, display_name, in_order, split
from dwalign.report.results import write_whole

# a path takes PNG, a stream SVG for pages, in which text stays text
File = str | Path | io.BytesIO
# of a drawing nothing that is not drawn
BARE = dict.fromkeys(("Creator", "Date", "Format", "Type"))
FLOOR = 1e-4
MARKERS = {"sinkhorn": "s", "refine": "D"}
SEED_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#b86b98", "#222222", "#56b4e9", "#8c6d31", "#999999")
QUIET = "#777777"


def interpolation_figure(
    results: Mapping[str, Any],
    file: File,
    methods: Sequence[str] | None = None,
    *,
    titles: Sequence[str] = ("test loss", "test accuracy"),
) -> None:
    """Loss and accuracy along the path: means over pairs and seeds, with their 95 % intervals as bands.

    Args:
      results: content of results.json.
      file: where the picture goes.
      methods: which to show; those that were not measured are left out, by default all are shown.
      titles: of the two panels.
    """
    shown = in_order(m for m in (methods or results["methods"]) if m in results["methods"])
    curves = {method: results["methods"][method]["curve"] for method in shown}
    height = max(4.2, 0.4 + 0.19 * len(shown))  # as high as the names
    figure, (left, right) = _pyplot().subplots(1, 2, figsize=(11.5, height), layout="constrained")
    # The names stand in the order of the lines half way, so that the eye can match them.
    for method in sorted(shown, key=lambda m: -curves[m]["loss"][len(curves[m]["loss"]) // 2]):
        curve = curves[method]
        style: dict[str, Any] = {"color": colour(method), "linestyle": _line(method)}
        for axis, name in ((left, "loss"), (right, "accuracy")):
            axis.plot(curve["lambdas"], curve[name], label=display_name(method), linewidth=1.8, **style)
            if f"{name}_ci95" in curve:
                axis.fill_between(curve["lambdas"], *curve[f"{name}_ci95"], color=colour(method), alpha=0.15, lw=0)
    left.set(title=titles[0], yscale="log")
    right.set(title=titles[1])
    right.yaxis.set_major_formatter("{x:.0%}")
    _plain_log(left.yaxis)
    for axis in (left, right):
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["network a", "half way", "aligned b"])
        axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    _save(figure, file)


def quality_figure(results: Mapping[str, Any], file: File) -> None:
    """Barrier against seconds a pair, both logarithmic; down and left is better.

    The naive method, which takes no time, is a line. Barriers below 1e-4 are drawn there.
    """
    figure, axis = _pyplot().subplots(figsize=(9, 5.6), layout="constrained")
    points: dict[str, tuple[float, float]] = {}
    for method in in_order(results["methods"]):
        seconds, barrier = (results["methods"][method][m] for m in ("seconds_per_pair", "barrier"))
        if method == "naive":
            axis.axhline(max(barrier["mean"], FLOOR), color=colour(method), linewidth=1, linestyle=":")
            axis.annotate(
                f"naive: {barrier['mean']:.3g}",
                (1, max(barrier["mean"], FLOOR)),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                fontsize=8.5,
                color=QUIET,
            )
            continue
        x, y = seconds["mean"], max(barrier["mean"], FLOOR)
        axis.plot([x, x], np.maximum(barrier["ci95"], FLOOR), color=colour(method), alpha=0.4, linewidth=2.5, zorder=2)
        marker = MARKERS.get(split(method)[-1][0], "o") if "+" in method else "o"
        axis.scatter(x, y, color=colour(method), s=42, marker=marker, edgecolors="white", linewidths=0.7, zorder=3)
        points[method] = (x, y)
    axis.set(xscale="log", yscale="log", xlabel="seconds a pair", ylabel="barrier")
    axis.set_title(f"{results['experiment']}: quality against time", loc="left")
    axis.margins(x=0.2, y=0.1)
    _plain_log(axis.xaxis)
    _plain_log(axis.yaxis)
    place_labels(axis, list(points.values()), [display_name(m) for m in points], [colour(m) for m in points])
    _save(figure, file)


def iterations_figure(results: Mapping[str, Any], file: File, methods: Sequence[str], *, longest: int = 1000) -> None:
    """Barrier against the number of iterations of the last stage, one line a start.

    Args:
      results: content of results.json.
      file: where the picture goes.
      methods: such as `weight_matching+sinkhorn`: all measured `method@k` make its line; without iterations stands its
        start, or `method@0` where it has none.
      longest: the number of iterations of the method without a count.

    Raises:
      ValueError: no method was measured with two numbers of iterations.
    """
    measured = results["methods"]
    figure, axis = _pyplot().subplots(figsize=(6.4, 4.2), layout="constrained")
    for method in methods:
        start = method.rpartition("+")[0]
        points = {longest: method, 0: start} | {
            int(name.rpartition("@")[2]): name for name in measured if name.rpartition("@")[0] == method
        }
        line = [(k, measured[name]["barrier"]) for k, name in sorted(points.items()) if name in measured]
        if len(line) < 2:
            continue
        counts = [k for k, _ in line]
        style: dict[str, Any] = {"color": colour(method), "linewidth": 1.8, "marker": "o", "markersize": 4}
        label = f"from {display_name(start)}" if start else "from a random start"
        axis.plot(counts, [max(barrier["mean"], FLOOR) for _, barrier in line], label=label, **style)
        ends = [np.maximum([barrier["ci95"][side] for _, barrier in line], FLOOR) for side in (0, 1)]
        axis.fill_between(counts, *ends, color=colour(method), alpha=0.15, lw=0)
    if not axis.lines:
        raise ValueError(f"iterations_figure: one of {list(methods)} must have been measured with several counts")
    axis.set(xlabel="iterations", ylabel="barrier", yscale="log")
    axis.set_xscale("symlog", linthresh=10, linscale=0.5)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:g}")
    _plain_log(axis.yaxis)
    axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(frameon=False, fontsize=9)
    _save(figure, file)


def matrix_figure(scores: Mapping[str, np.ndarray], perms: Mapping[str, np.ndarray], file: File) -> None:
    """The scores of each group as they are, with the assignment marked, and reordered so that it is the diagonal.

    Means of rows and columns are taken out: they change no assignment, and they hide it.

    Args:
      scores: for each group `[*batch, n, n]`; the first of a batch is shown.
      perms: for each group `[*batch, n]`.
      file: where the picture goes.
    """
    figure, axes = _pyplot().subplots(
        2, len(scores), figsize=(3.1 * len(scores) + 0.6, 6.4), layout="constrained", squeeze=False
    )
    for column, (group, matrix) in enumerate(scores.items()):
        n = np.shape(matrix)[-1]
        matrix, perm = np.asarray(matrix).reshape(-1, n, n)[0], np.asarray(perms[group]).reshape(-1, n)[0]
        matrix = matrix - matrix.mean(0, keepdims=True) - matrix.mean(1, keepdims=True) + matrix.mean()
        matrix = matrix / max(float(np.abs(matrix).max()), 1e-12)
        strongest = np.argsort(-matrix[np.arange(n), perm])
        for row, shown in enumerate((matrix, matrix[np.ix_(strongest, perm[strongest])])):
            image = axes[row, column].imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes[row, column].set(xticks=[], yticks=[])
        axes[0, column].scatter(perm, np.arange(n), s=1500 / n, facecolors="none", edgecolors="black", linewidths=0.7)
        axes[0, column].set_title(f"{group}: {n} units", fontsize=10)
        axes[1, column].set_xlabel("units of b")
    axes[0, 0].set_ylabel("units of a, as they are")
    axes[1, 0].set_ylabel("units of a, best match first")
    bar = figure.colorbar(image, ax=axes, shrink=0.5, ticks=[-1, 0, 1], label="score, relative to the largest")
    bar.outline.set_visible(False)
    _save(figure, file)


def training_figure(metrics: Sequence[Sequence[Mapping[str, float]]], file: File) -> None:
    """Each loss and the validation barrier (its best step marked), one line an aligner seed.

    Args:
      metrics: for each seed the records of `metrics.jsonl`: `step` and the same further names in all of them.
      file: where the picture goes.

    Raises:
      ValueError: there is no record at all.
    """
    if not any(metrics):
        raise ValueError("training_figure: metrics must hold at least one record, found none; was the run too short?")
    records = [record for run in metrics for record in run]
    names = [name for name in records[0] if name != "step" and any(record[name] for record in records)]
    names.sort(key=lambda name: "barrier" in name)
    lines = 1 if len(names) <= 3 else 2
    columns = -(-len(names) // lines)
    figure, axes = _pyplot().subplots(
        lines, columns, figsize=(3.6 * columns, 2.8 * lines), layout="constrained", squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        for seed, run in enumerate(metrics):
            steps, values = [record["step"] for record in run], [record[name] for record in run]
            tone = SEED_COLOURS[seed % len(SEED_COLOURS)]
            axis.plot(steps, values, color=tone, linewidth=1.5, label=f"seed {seed}")
            if "barrier" in name and run:
                best = int(np.argmin(values))
                axis.plot(steps[best], values[best], "o", color=tone, markersize=5)
        axis.set_title(name.replace("_", " "), loc="left", fontsize=10)
        axis.set_xlabel("step", fontsize=9)
        axis.grid(axis="y", color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    if len(metrics) > 1:
        axes[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, file)


def _line(method: str):
    stages = split(method)
    if len(stages) == 1:
        return "-"
    return (0, (5, 1.5)) if stages[-1][0] == "refine" else (0, (1.5, 1.5))


def _plain_log(axis) -> None:
    ticker = load("matplotlib.ticker")
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high < 300 * low else (1,)
    axis.set_major_locator(ticker.LogLocator(subs=subs))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _pyplot():
    load("matplotlib").use("Agg")
    plt = load("matplotlib.pyplot")
    spines = {"axes.spines.top": False, "axes.spines.right": False}
    # names with two dollar signs are no formulas
    plt.rcParams.update({**spines, "axes.grid": False, "font.size": 10, "text.parse_math": False})
    return plt


def _save(figure, file: File) -> None:
    page = isinstance(file, io.BytesIO)
    picture = io.BytesIO()
    kind = {"format": "svg", "transparent": True, "metadata": BARE} if page else {"format": "png"}
    if page:
        # with halos letters would be outlines, ten times as long and no text: the style of pages draws them by name
        haloed = (text for text in figure.findobj(load("matplotlib.text").Text) if text.get_path_effects())
        for number, text in enumerate(haloed):
            text.set(path_effects=[], gid=f"halo-{number}")
    with load("matplotlib").rc_context({"svg.fonttype": "none", "svg.hashsalt": "dwalign"}):
        figure.savefig(picture, dpi=150, **kind)
    _pyplot().close(figure)
    if isinstance(file, io.BytesIO):
        file.write(picture.getvalue())
    else:
        write_whole(file, picture.getvalue())
