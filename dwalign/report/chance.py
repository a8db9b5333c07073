"""Chances that partners are the right ones, against how often they were."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dwalign.report.figures import QUIET, File, _plain_log, _pyplot, _save
from dwalign.report.methods import colour, display_name
from dwalign.report.tables import markdown

TITLES = {"weights": "from weights", "activations": "from activations"}


COLUMNS = ["units", "mean chance", "right", "error", "error before", "Brier score"]


def chance_table(results: Mapping[str, Any]) -> str:
    """`chance_rows` and `architecture_rows` as Markdown, and what became of strangers."""
    tables = [markdown(chance_rows(results)), markdown(architecture_rows(results))]
    return "\n\n".join([*(table for table in tables if table), chance_caption(results)])


def chance_caption(results: Mapping[str, Any]) -> str:
    """What the columns are, and what strangers get."""
    strangers = results["strangers"]
    said = " and ".join(f"{strangers[of]['chance']:.0%} {title}" for of, title in TITLES.items())
    kept = next(iter(strangers.values()))["right"]
    return (
        f"{results['experiment']}: the error is the expected calibration error over ten bins, in percentage points; "
        "the error before is that of a curve from similarity, margin and mean similarity, fitted on the same networks. "
        "A star marks methods that the curve was not fitted on. Architectures that are seen are judged one by one by a "
        "curve from the others. Strangers, which have no right partners, get a mean chance of "
        f"{said}; refinement with labels keeps {kept:.0%} of their partners."
    )


def chance_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A row for the evidence, the method, and architectures that the curve has seen or not."""
    rows = [["chance", "matched by", "architectures", *COLUMNS]]
    for row in results["reliability"]:
        method = display_name(row["method"]) + ("" if row["fitted"] else " *")
        rows.append([TITLES[row["of"]], method, row["architectures"], *_cells(row)])
    return rows


def architecture_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A row for the evidence and each architecture, judged by a curve that was fitted on others."""
    rows = [["chance", "architecture", "architectures", *COLUMNS]]
    for row in results["architectures"]:
        rows.append([TITLES[row["of"]], row["architecture"], row["architectures"], *_cells(row)])
    return rows


def _cells(row: Mapping[str, Any]) -> list[str]:
    shares, errors = (row["chance"], row["right"]), (row["error"], row["before"])
    return [
        str(row["units"]),
        *(f"{share:.1%}" for share in shares),
        *(f"{100 * error:.1f}" for error in errors),
        f"{row['brier']:.3f}",
    ]


def chance_figure(results: Mapping[str, Any], file: File) -> None:
    """The share that was right against the chance, on unseen architectures; below, how many units there were."""
    figure, axes = _pyplot().subplots(
        2, 2, figsize=(9.6, 6.4), layout="constrained", sharex=True, sharey="row", height_ratios=(3, 1)
    )
    for (axis, below), (of, title) in zip(axes.T, TITLES.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#444444", linewidth=1)
        for row in results["reliability"]:
            if (row["of"], row["architectures"]) != (of, "unseen"):
                continue
            count, chance, right = np.array(row["bins"]).T
            style = {"color": colour(row["method"]), "linestyle": "-" if row["fitted"] else ":"}
            name = display_name(row["method"]) + ("" if row["fitted"] else " (not fitted)")
            axis.plot(chance, right, "o", markersize=4, linewidth=1.5, label=name, **style)
            below.plot(chance, count, "o", markersize=3, linewidth=1.2, **style)
        count, chance, kept = np.array(results["strangers"][of]["bins"]).T
        axis.plot(chance, kept, "--", color=QUIET, linewidth=1.2, label="strangers: kept by refinement")
        below.plot(chance, count, "--", color=QUIET, linewidth=1.2)
        axis.set_title(title, loc="left")
        axis.legend(frameon=False, fontsize=8, loc="upper left")
        below.set(xlabel="chance", yscale="log", xlim=(-0.02, 1.02))
        _plain_log(below.yaxis)
        for one in (axis, below):
            one.grid(color="#eeeeee", linewidth=0.8)
            one.set_axisbelow(True)
    axes[0][0].set_ylabel("share that was right")
    axes[1][0].set_ylabel("units")
    _save(figure, file)
