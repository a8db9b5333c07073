"""What was measured at several settings, as a table and a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dwalign.evaluation import interval
from dwalign.report.figures import SEED_COLOURS, File, _plain_log, _pyplot, _save
from dwalign.report.tables import markdown


def point(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Mean and 95 % interval of a figure, for each aligner the values of its pairs; as results.json holds it."""
    mean, low, high = interval(np.asarray(values, np.float64))
    return {"mean": round(float(mean), 5), "ci95": [round(float(low), 5), round(float(high), 5)]}


def series_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header, then one row a setting, one column a series of each panel.

    Where `results` says `whole` the figures are counts.
    """
    columns = [(title, name) for title, series in results["panels"].items() for name in series]
    heads = [results["axis"], *(name if name == title else f"{title}: {name}" for title, name in columns)]
    rows = [heads]
    for setting in results["settings"]:
        found = [results["panels"][title][name].get(str(setting)) for title, name in columns]
        cells = (_cell(one["mean"], *one["ci95"], whole=results.get("whole", False)) if one else "" for one in found)
        rows.append([str(setting), *cells])
    return rows


def series_table(results: Mapping[str, Any]) -> str:
    """`series_rows` as Markdown, and the caption if there is one."""
    caption = ["", results["caption"]] if "caption" in results else []
    return "\n".join([markdown(series_rows(results)), *caption])


def _cell(mean: float, low: float, high: float, *, whole: bool) -> str:
    """Mean and interval, or the mean alone of what was not repeated; `whole` numbers are counts."""
    digits = "{:,.0f}" if mean >= 100 or whole else "{:.2g}" if 0 < mean < 0.01 else "{:.3f}"
    return digits.format(mean) if low == mean == high else f"{digits} [{digits}, {digits}]".format(mean, low, high)


def series_figure(results: Mapping[str, Any], file: File) -> None:
    """A panel for each kind of figure, a line (or, where settings are no numbers, dots) for each series.

    Args:
      results: `axis`, the name of what was varied; `settings`, numbers or names in order; `panels`, for each title and
        series `{str(setting): point}`; perhaps `logarithmic`, for figures that span powers of ten.
      file: where the picture goes.
    """
    settings, panels = results["settings"], results["panels"]
    numbers = all(isinstance(setting, int | float) for setting in settings)
    names = 0.5 + 0.09 * max(len(str(setting)) for setting in settings)
    lines = max(len(series) for series in panels.values())
    rows = 1.3 + 0.18 * lines + max(0.3, 0.08 * lines) * len(settings)
    size = (4.6 * len(panels), 3.4 + 0.18 * lines) if numbers else (3.2 * len(panels) + names, rows)
    figure, axes = _pyplot().subplots(
        1, len(panels), figsize=size, layout="constrained", squeeze=False, sharey=not numbers
    )
    for axis, (title, series) in zip(axes[0], panels.items(), strict=True):
        for k, (name, points) in enumerate(series.items()):
            here = [i for i, setting in enumerate(settings) if str(setting) in points]
            if not here:
                continue
            means = np.array([points[str(settings[i])]["mean"] for i in here])
            low, high = np.array([points[str(settings[i])]["ci95"] for i in here]).T
            colour = SEED_COLOURS[k % len(SEED_COLOURS)]
            if numbers:
                x = [settings[i] for i in here]
                axis.plot(x, means, marker="o", markersize=4, linewidth=1.8, color=colour, label=name)
                axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            else:
                # beside one another, not on top
                y = np.array(here) + min(0.16, 0.8 / len(series)) * (k - (len(series) - 1) / 2)
                axis.hlines(y, low, high, color=colour, alpha=0.4, linewidth=2.5)
                axis.plot(means, y, "o", markersize=5, color=colour, label=name)
        axis.set_title(title, fontsize=10)
        axis.grid(axis="y" if numbers else "x", color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
        if numbers:
            axis.set(xscale="log", xlabel=results["axis"])
            axis.set_xticks(settings, [f"{setting:g}" for setting in settings])
            axis.minorticks_off()
            if results.get("logarithmic"):
                axis.set_yscale("log")
                _plain_log(axis.yaxis)
            else:
                axis.set_ylim(bottom=0)
        elif results.get("logarithmic"):
            axis.set_xscale("log")
            axis.margins(x=0.1)
            _plain_log(axis.xaxis)
        if len(series) > 1:
            # lines and dots fill their panel, so that no corner is free
            axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16 if numbers else -0.1))
    if not numbers:
        axes[0][0].set_yticks(range(len(settings)), settings)
        axes[0][0].invert_yaxis()
    _save(figure, file)
