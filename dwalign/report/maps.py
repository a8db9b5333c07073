"""Zoos as maps: where networks lie to one another, before and after alignment."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dwalign.evaluation import cluster_agreement, planar_map, retrieval_precision
from dwalign.report.figures import File, _pyplot, _save
from dwalign.report.methods import display_name
from dwalign.report.tables import markdown


def make_maps(distances: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    """What `maps_table` and `maps_figure` take, from the distances `[n, n]` after each method and the labels `[n]`."""
    maps = {
        method: {
            "precision": retrieval_precision(apart, labels),
            "agreement": cluster_agreement(apart, labels),
            "points": np.round(planar_map(apart), 3).tolist(),
        }
        for method, apart in distances.items()
    }
    return {"labels": labels.tolist(), "maps": maps}


def maps_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header, and for each method how well the labels can be read off its distances."""
    rows = [["distances after", "retrieval precision", "agreement of clusters (adjusted Rand index)"]]
    for method, found in results["maps"].items():
        rows.append([display_name(method), f"{found['precision']:.2f}", f"{found['agreement']:.2f}"])
    return rows


def maps_table(results: Mapping[str, Any]) -> str:
    """`maps_rows` as Markdown."""
    return markdown(maps_rows(results))


def maps_figure(results: Mapping[str, Any], file: File) -> None:
    """A map for each method; networks of one label share a colour."""
    maps, labels = results["maps"], np.asarray(results["labels"])
    figure, axes = _pyplot().subplots(1, len(maps), figsize=(3.2 * len(maps), 3.6), layout="constrained", squeeze=False)
    for axis, (method, found) in zip(axes[0], maps.items(), strict=True):
        x, y = np.array(found["points"]).T
        axis.scatter(x, y, c=labels, cmap="tab10" if labels.max() < 10 else "hsv", s=30, edgecolors="white", lw=0.5)
        title = display_name(method).replace(" (", "\n(").replace(" + ", "\n+ ")
        axis.set_title(f"{title}\nprecision {found['precision']:.2f}", fontsize=10)
        axis.set_aspect("equal", "datalim")
        axis.set(xticks=[], yticks=[])
    _save(figure, file)
