"""Forecasts of barriers against the barriers that came."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dwalign.evaluation import predict_barrier
from dwalign.report.figures import File, _pyplot, _save
from dwalign.report.tables import markdown

TITLES = {"weights": "from weights alone", "inputs": "from inputs without labels"}


def forecast_table(results: Mapping[str, Any]) -> str:
    """`forecast_rows` as Markdown."""
    caption = (
        f"{results['experiment']}: the typical factor is the median of how far forecast and barrier are apart, both "
        "plus 0.01."
    )
    return "\n".join([markdown(forecast_rows(results)), "", caption])


def forecast_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A row for what the forecast reads and for architectures that it has seen or not."""
    level = f"{results['level']:.0%}"
    rows = [
        ["forecast", "architectures", "pairs", f"inside the {level} interval", "typical factor", "rank correlation"]
    ]
    for row in results["rows"]:
        cells = (f"{row['inside']:.1%}", f"{row['factor']:.2f}", f"{row['correlation']:.2f}")
        rows.append([TITLES[row["from"]], row["architectures"], str(row["pairs"]), *cells])
    return rows


def forecast_figure(results: Mapping[str, Any], file: File) -> None:
    """Barrier against forecast with its interval, a panel for each kind, unseen architectures in colour."""
    figure, axes = _pyplot().subplots(1, 2, figsize=(9.6, 4.4), layout="constrained", sharey=True)
    for axis, (kind, title) in zip(axes, TITLES.items(), strict=True):
        line = results["lines"][kind]
        for label, colour, alpha in (("seen", "#999999", 0.5), ("unseen", "#0072b2", 0.9)):
            cases = results["cases"][label]
            guesses = [predict_barrier(case["traits"], line) for case in cases]
            x, low, high = (np.array(values) + 0.01 for values in zip(*guesses, strict=True))
            y = np.array([case["barrier"] for case in cases]) + 0.01
            axis.plot(x, y, "o", markersize=3.5, color=colour, alpha=alpha, label=f"{label} architectures", mew=0)
            order = np.argsort(x)
            if label == "unseen":
                axis.fill_between(x[order], low[order], high[order], color="#e69f00", alpha=0.2, lw=0, label="interval")
        ends = [0.01, 6]
        axis.plot(ends, ends, color="#444444", linewidth=1)
        axis.set(xscale="log", yscale="log", xlabel="forecast + 0.01, nats", title=title)
        axis.grid(color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("barrier + 0.01, nats")
    axes[0].legend(frameon=False, fontsize=8)
    _save(figure, file)
