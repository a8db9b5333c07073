"""How clear a matching is, group by group: what a record keeps of it, as a table and a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dwalign.evaluation import Confidence
from dwalign.report.figures import QUIET, File, _pyplot, _save

# percentiles that are kept of the units of a group: the extremes, and what the strips show
LEVELS = (0, 5, 25, 50, 75, 95, 100)
PANELS = {
    "similarity": "similarity of partners",
    "margin": "margin to the next best",
    "chance": "chance to be the right one",
}


def make_clearness(found: Confidence, of: str) -> dict[str, Any]:
    """What `clearness_rows` and `clearness_figure` take, as JSON values; `of` is weights or activations."""
    groups = {}
    for group, similarity in found.similarity.items():
        values = {name: np.ravel(getattr(found, name)[group]) for name in PANELS}
        spread = {name: np.percentile(value, LEVELS).round(4).tolist() for name, value in values.items()}
        means = {"doubtful": np.mean(values["margin"] <= 0), "expected": np.mean(values["chance"])}
        groups[group] = {"units": similarity.size, **spread, **{name: round(float(m), 4) for name, m in means.items()}}
    return {"of": of, "groups": groups}


def clearness_rows(record: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row a group; right units to expect are the sum of their chances."""
    half = LEVELS.index(50)
    rows = [["group", "units", "median similarity", "median margin", "another is as like or more", "right, to expect"]]
    for group, found in record["groups"].items():
        middle = (f"{found[name][half]:.2f}" for name in ("similarity", "margin"))
        expected = f"{found['expected'] * found['units']:.1f}"
        rows.append([group, str(found["units"]), *middle, f"{found['doubtful']:.0%}", expected])
    return rows


def clearness_figure(record: Mapping[str, Any], file: File) -> None:
    """A strip a group: the median unit, half of all units thick, nine in ten thin."""
    groups = record["groups"]
    figure, axes = _pyplot().subplots(
        1, len(PANELS), figsize=(9.6, 1 + 0.28 * len(groups)), layout="constrained", sharey=True, squeeze=False
    )
    for axis, (name, title) in zip(axes[0], PANELS.items(), strict=True):
        for row, found in enumerate(groups.values()):
            _, low, lower, half, upper, high, _ = found[name]
            axis.plot([low, high], [row, row], color="#0072b2", linewidth=1.2, alpha=0.6)
            axis.plot([lower, upper], [row, row], color="#0072b2", linewidth=5, alpha=0.5, solid_capstyle="butt")
            axis.plot(half, row, "o", color="#0072b2", markersize=5, markeredgecolor="white", zorder=3)
        axis.axvline(0, color=QUIET, linewidth=0.8)
        axis.set_title(title, fontsize=10, loc="left")
        axis.grid(axis="x", color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
    axes[0][0].set_yticks(range(len(groups)), groups, fontsize=8)
    axes[0][0].set_ylim(len(groups) - 0.5, -0.5)
    for axis, low in ((axes[0][0], None), (axes[0][2], -0.03)):
        axis.set_xlim(low, 1.03)
    _save(figure, file)
