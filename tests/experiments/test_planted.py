"""The planted study on one small network: what it draws is found again, and what it writes can be read."""

import json

import planted
import pytest

from dwalign import report


def test_planted(tmp_path, monkeypatch, capsys):
    small = dict(kind="mlp", inputs=6, widths=[5, 4], outputs=3)
    vit = dict(kind="vit", shape=[4, 4, 1], patch=2, dim=8, depth=1, heads=2, width=8)
    monkeypatch.setattr(planted, "NETWORKS", {"mlp": small, "vit": vit})
    monkeypatch.setattr(planted, "SMOKE", ("mlp",))
    config = planted.read_config(["--preset", "smoke", "--out", str(tmp_path)])
    results = planted.main(config)
    found = results["recovery"]["mlp"]
    assert found["features+weight_matching"]["draws"][0] == found["deep_align"]["draws"][0] == 1.0
    assert json.loads((tmp_path / "planted" / "results.json").read_text())["recovery"] == results["recovery"]
    assert (tmp_path / "planted" / "planted.png").exists() and (tmp_path / "planted" / "sharing-vit.png").exists()
    assert report.recovery_table(results) in capsys.readouterr().out


def test_methods_that_descend_have_a_task_of_their_own(tmp_path, monkeypatch):
    """The outputs of the network itself: every method runs, and straight-through finds nearly all units."""
    monkeypatch.setattr(planted, "SMOKE", ("mlp",))
    config = planted.read_config(["--methods", "descent", "--preset", "smoke", "--out", str(tmp_path)])
    found = planted.main(config)["recovery"]["mlp"]
    assert set(found) == {"straight_through", "sinkhorn", "refine"}
    assert found["straight_through"]["units"][0] > 0.9 and (tmp_path / "planted-descent" / "results.json").exists()


def test_configs_build():
    with pytest.raises(SystemExit):
        planted.read_config(["--preset", "none"])
    assert all("kind" in config for config in planted.NETWORKS.values())
