"""Merging of many networks as tables."""

from dwalign import report

point = lambda mean: {"mean": mean, "ci95": [mean - 0.1, mean + 0.1]}
RESULTS = {
    "experiment": "merge_many",
    "config": {"counts": [2, 4], "sets": 3},
    "networks": {
        "mlp": {
            "ensemble": {"2": {"accuracy": point(0.9), "loss": point(0.25)}},
            "MergeMany": {"2": {"accuracy": point(0.5), "loss": point(1.5), "repaired": point(0.75)}},
        },
        "vgg": {"ensemble": {"4": {"accuracy": point(0.8), "loss": point(0.5)}}},
    },
    "repair": {
        "mlp": {
            "weights": {"not": {"accuracy": point(0.5)}, "REPAIR": dict.fromkeys(("accuracy", "won_back"), point(0.6))}
        }
    },
}


def test_one_row_a_way_and_one_column_a_number(tmp_path):
    table = report.merging_table(RESULTS)
    assert "| network | merged by | 2 networks | 4 networks |" in table
    assert "| mlp | MergeMany | 0.500 → 0.750; 1.50 |  |" in table and "| vgg | ensemble |  | 0.800; 0.50 |" in table
    assert "up to 3 sets" in table and "vgg" not in report.merging_table(RESULTS, "mlp")


def test_what_repair_wins_back():
    table = report.repair_table(RESULTS)
    assert "| mlp | weights | not | 0.500 [0.400, 0.600] |  |" in table
    assert "| mlp | weights | REPAIR | 0.600 [0.500, 0.700] | 0.600 [0.500, 0.700] |" in table


def test_the_figure_shows_what_repair_leaves(tmp_path):
    series = report.merging_series(RESULTS, ["ensemble", "MergeMany"])
    assert series["panels"]["mlp, accuracy after REPAIR"]["MergeMany"]["2"]["mean"] == 0.75
    report.series_figure(series, tmp_path / "merge_many.png")
    assert (tmp_path / "merge_many.png").stat().st_size > 1000
