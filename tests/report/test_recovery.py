"""Planted recovery and specs as tables and pictures."""

from dwalign.report import recovery_figure, recovery_table, sharing_figure
from dwalign.symmetry import Axes, PermutationSpec

RESULTS = {
    "config": {"noise": [0.0, 0.5]},
    "recovery": {
        "mlp": {
            "naive": {"draws": [0.0, 0.0], "units": [0.1, 0.1]},
            "features": {"draws": [1.0, 0.5], "units": [1, 0.9]},
        },
        "vit": {
            "naive": {"draws": [0.0, 0.0], "units": [0.2, 0.1]},
            "features": {"draws": [0.9, 0.4], "units": [1, 0.8]},
        },
    },
}


def test_table_holds_the_shares_without_noise():
    lines = recovery_table(RESULTS).splitlines()
    assert lines[0] == "| network | naive | random features |" and len(lines) == 4
    assert lines[2] == "| mlp | 0% | 100% |" and lines[3] == "| vit | 0% | 90% |"


def test_pictures_are_written(tmp_path):
    recovery_figure(RESULTS, tmp_path / "recovery.png")
    sharing_figure(
        PermutationSpec({"up": Axes(None, "h0"), "down": Axes("h0", None)}, {"h0": 4}), tmp_path / "sharing.png"
    )
    for name in ("recovery", "sharing"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
