"""What was measured at several settings, and maps of zoos, as tables and pictures."""

import numpy as np
import pytest

from dwalign.report import make_maps, maps_figure, maps_table, point, series_figure, series_table


def results(settings):
    """Two panels; one series was not measured at the last setting."""
    points = {str(s): point([[0.1, 0.3], [0.2, 0.2]]) for s in settings}
    some = dict(list(points.items())[:-1])
    return {
        "axis": "size",
        "settings": settings,
        "panels": {"barrier": {"ours": points, "theirs": some}, "b": {"b": points}},
    }


@pytest.mark.parametrize("settings", [[10, 30, 100], ["none", "some"]])
def test_table_and_picture(settings, tmp_path):
    lines = series_table(results(settings)).splitlines()
    assert lines[0] == "| size | barrier: ours | barrier: theirs | b |" and len(lines) == 2 + len(settings)
    assert lines[2].startswith(f"| {settings[0]} | 0.200 [") and lines[-1].split("|")[3].strip() == ""
    series_figure(results(settings), tmp_path / "series.png")
    assert (tmp_path / "series.png").read_bytes().startswith(b"\x89PNG")


def test_cells_suit_the_size_of_their_figure():
    points = {"a": point([[0.0042, 0.0044]]), "b": point([[0.5, 0.7]]), "c": point([[28310.4]])}
    table = series_table({"axis": "of", "settings": list(points), "panels": {"x": {"x": points}}})
    cells = [line.split("|")[2].strip() for line in table.splitlines()[2:]]
    assert cells[0].startswith("0.0043 [") and cells[1].startswith("0.600 [") and cells[2] == "28,310"


def test_dots_on_a_logarithmic_scale_and_a_series_without_any(tmp_path):
    found = results(["none", "some"]) | {"logarithmic": True}
    found["panels"]["b"]["empty"] = {}
    series_figure(found, tmp_path / "series.png")
    assert (tmp_path / "series.png").read_bytes().startswith(b"\x89PNG")


def test_a_point_holds_mean_and_interval():
    found = point([[1.0, 2.0, 3.0]])
    assert found["mean"] == 2 and found["ci95"][0] < 2 < found["ci95"][1]


def test_a_caption_follows_the_table():
    assert series_table(results([1, 2]) | {"caption": "over 5 pairs"}).endswith("\n\nover 5 pairs")


def test_maps(tmp_path):
    labels = np.array([0, 0, 1, 1])
    near = np.abs(np.subtract.outer(*[np.array([0.0, 1.0, 10.0, 11.0])] * 2))
    apart = np.where(np.eye(4) > 0, 0, 12 - near)
    zoo = make_maps({"naive": apart, "deep_align+refine": near}, labels)
    assert maps_table(zoo).splitlines()[3] == "| Deep-Align + refinement | 1.00 | 1.00 |"
    assert zoo["maps"]["naive"]["precision"] == 0
    maps_figure(zoo, tmp_path / "maps.png")
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
