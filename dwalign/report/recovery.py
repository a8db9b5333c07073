"""Planted recovery as a table and a picture."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dwalign.report.figures import File, _pyplot, _save
from dwalign.report.methods import display_name
from dwalign.report.tables import markdown


def recovery_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header, and for each network the share of draws of which every unit was found, without noise."""
    recovery = results["recovery"]
    methods = list(next(iter(recovery.values())))
    clean = list(results["config"]["noise"]).index(0.0)
    rows = [["network", *map(display_name, methods)]]
    for network, found in recovery.items():
        rows.append([network, *(f"{found[method]['draws'][clean]:.0%}" for method in methods)])
    return rows


def recovery_table(results: Mapping[str, Any]) -> str:
    """`recovery_rows` as Markdown."""
    return markdown(recovery_rows(results))


def recovery_figure(results: Mapping[str, Any], file: File) -> None:
    """For each method a map of networks and noise: the share of units in their place."""
    recovery, noise = results["recovery"], results["config"]["noise"]
    networks, methods = list(recovery), list(next(iter(recovery.values())))
    height = 1.4 + 0.28 * len(networks)
    figure, axes = _pyplot().subplots(
        1, len(methods), figsize=(2.2 + 2.2 * len(methods), height), layout="constrained", sharey=True, squeeze=False
    )
    for axis, method in zip(axes[0], methods, strict=True):
        share = np.array([recovery[network][method]["units"] for network in networks])
        image = axis.imshow(share, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axis.set_title(display_name(method).replace(" + ", "\n+ ").replace(" (", "\n("), fontsize=9)
        axis.set_xticks(range(len(noise)), [f"{level:g}" for level in noise])
        axis.set_xlabel("noise")
        for row, column in np.ndindex(share.shape):
            value = share[row, column]
            text = f"{value:.0%}"
            axis.text(
                column, row, text, ha="center", va="center", fontsize=6, color="black" if value > 0.6 else "white"
            )
    axes[0][0].set_yticks(range(len(networks)), networks)
    figure.colorbar(image, ax=axes, label="units in their place", shrink=0.8)
    _save(figure, file)
