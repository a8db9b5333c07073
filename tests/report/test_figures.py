"""Figures are drawn from results alone, in one colour a method, with labels that can be read."""

import matplotlib

matplotlib.use("Agg")

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from dwalign import report
from dwalign.matching import known_methods
from dwalign.report import figures
from dwalign.report.labels import place_labels
from dwalign.report.methods import colour


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, still open."""
    found = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, file: (found.append(figure), save(figure, file)))
    yield found
    plt.close("all")


def is_picture(file):
    pixels = plt.imread(file)[..., :3]
    return min(pixels.shape[:2]) > 300 and pixels.std() > 0.01


def test_interpolation(results, drawn, tmp_path):
    shown = ["deep_align", "naive", "not_measured"]
    report.interpolation_figure(results, tmp_path / "f.png", shown)
    assert is_picture(tmp_path / "f.png")
    for axis, name in zip(drawn[0].axes, ("loss", "accuracy"), strict=True):
        lines = {line.get_label(): line for line in axis.lines}
        assert set(lines) == {"naive", "Deep-Align"}
        np.testing.assert_allclose(lines["naive"].get_ydata(), results["methods"]["naive"]["curve"][name])
        assert to_hex(lines["Deep-Align"].get_color()) == colour("deep_align")
        assert len(axis.collections) == 2, "the bands"


def test_interpolation_without_bands(results, drawn, tmp_path):
    for method in results["methods"].values():
        method["curve"] = {key: method["curve"][key] for key in ("lambdas", "loss", "accuracy")}
    report.interpolation_figure(results, tmp_path / "f.png")
    assert is_picture(tmp_path / "f.png") and not drawn[0].axes[0].collections
    assert len(drawn[0].axes[0].lines) == len(results["methods"])


def test_quality(results, drawn, tmp_path):
    results["methods"]["sinkhorn"]["barrier"] |= {"mean": 0.0, "ci95": [0.0, 0.0]}
    report.quality_figure(results, tmp_path / "f.png")
    assert is_picture(tmp_path / "f.png")
    axis = drawn[0].axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    texts = {text.get_text() for text in axis.texts}
    assert {"Deep-Align", "Deep-Align + refinement", "Sinkhorn re-basin"} <= texts and "naive" not in texts


def test_training(drawn, tmp_path):
    record = lambda step: {"step": step, "supervised": 1 / step, "unused": 0.0, "validation_barrier": abs(step - 3)}
    report.training_figure([[record(step) for step in range(1, 6)]] * 2, tmp_path / "f.png")
    assert is_picture(tmp_path / "f.png")
    first, last = drawn[0].axes
    assert (first.get_title("left"), last.get_title("left")) == ("supervised", "validation barrier")
    assert len(first.lines) == 2 and last.lines[1].get_xdata() == [3], "the best step is marked"
    with pytest.raises(ValueError, match="at least one record"):
        report.training_figure([[]], tmp_path / "g.png")


def test_matrix(drawn, tmp_path):
    random = np.random.default_rng(0)
    perm = random.permutation(8)
    scores = 0.1 * random.normal(size=(2, 8, 8)) + 5 * random.normal(size=(1, 8, 1))
    scores[0, np.arange(8), perm] += np.linspace(1, 2, 8)
    report.matrix_figure({"h0": scores}, {"h0": np.stack([perm, perm])}, tmp_path / "f.png")
    assert is_picture(tmp_path / "f.png")
    shown = np.asarray(drawn[0].axes[1].images[0].get_array())
    assert (shown.argmax(1) == np.arange(8)).all(), "the match is the diagonal"
    assert (np.diff(np.diag(shown)) <= 0).all(), "best first"


def test_one_colour_a_method():
    # other tests declare methods of their own
    known = [name for name, one in known_methods().items() if "dwalign" in one.function.__module__]
    assert len({colour(name) for name in known}) == len(known) > 5
    assert colour("deep_align+refine@5") == colour("deep_align") != colour("something_new")


def test_labels_do_not_cover_one_another():
    figure, axis = plt.subplots(figsize=(6, 4))
    points = [(0.5, 0.5 + 0.01 * k) for k in range(6)]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    place_labels(axis, points, [f"a long name {k}" for k in range(6)], ["black"] * 6)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axis.texts if text.get_text()]
    assert len(boxes) == 6
    frame = axis.get_window_extent()
    assert all(box.x0 >= frame.x0 and box.x1 <= frame.x1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations([box.padded(-1) for box in boxes], 2))
    plt.close(figure)
