"""Names beside the points of a scatter plot, placed so that they do not cover one another."""

from collections.abc import Iterator, Sequence

import numpy as np

from dwalign.extras import load

SIZE = 8.5
GAP = 7.0
ROWS = (0.0, 9.0, -9.0, 18.0, -18.0, 27.0, -27.0, 38.0, -38.0)


def place_labels(axis, points: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[str]) -> None:
    """Write each name near its point, at the spot that covers least of other names, points and the border.

    Args:
      axis: of matplotlib, with its limits and scales set.
      points: `[k]` in data coordinates.
      names, colours: `[k]`.
    """
    halo = [load("matplotlib.patheffects").withStroke(linewidth=2.5, foreground="white")]
    figure = axis.figure
    figure.canvas.draw()
    renderer, frame = figure.canvas.get_renderer(), axis.get_window_extent()
    border = np.array([frame.x0, frame.y0, frame.x1, frame.y1])
    unit = figure.dpi / 72
    centres = axis.transData.transform(np.asarray(points, float).reshape(-1, 2)) / unit
    border = border / unit
    taken = [np.array([x - 4, y - 4, x + 4, y + 4]) for x, y in centres]
    for k in np.argsort(centres[:, 0]):
        style = {"fontsize": SIZE, "color": colours[k], "va": "center", "path_effects": halo, "zorder": 4}
        label = axis.annotate(names[k], points[k], (0, 0), textcoords="offset points", **style)
        extent = label.get_window_extent(renderer)
        size = np.array([extent.width, extent.height]) / unit
        costs = []
        for spot in _spots(size[0]):
            corner = centres[k] + spot - (0, size[1] / 2)
            box = np.concatenate([corner, corner + size])
            covered = sum(_overlap(box, other) for other in taken)
            costs.append((covered + 3 * (size.prod() - _overlap(box, border)), len(costs), spot, box))
        _, _, spot, box = min(costs, key=lambda cost: cost[:2])
        label.set_position(spot)
        taken.append(box)
        if abs(spot[1]) > 12:
            near = np.array([np.clip(0.0, spot[0], spot[0] + size[0]), spot[1] - np.sign(spot[1]) * size[1] / 2])
            line = {"arrowstyle": "-", "color": colours[k], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            axis.annotate("", points[k], tuple(near), textcoords="offset points", arrowprops=line)


def _spots(width: float) -> Iterator[tuple[float, float]]:
    """Offsets of the left end of a label, in points, the best liked first."""
    for dy in ROWS:
        yield GAP, dy
        yield -GAP - width, dy
        if abs(dy) >= 9:
            yield -width / 2, dy + np.sign(dy) * 3


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.prod(np.maximum(0.0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))))
