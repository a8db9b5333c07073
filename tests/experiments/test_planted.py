"""The planted study on one small network: what it draws is found again, and what it writes can be read."""

import json

import planted
import pytest

from dwalign import report


@pytest.fixture(autouse=True)
def small(monkeypatch):
    mlp = dict(kind="mlp", inputs=6, widths=[5], outputs=3)
    monkeypatch.setattr(planted, "NETWORKS", {"mlp": mlp, "vit": mlp})
    monkeypatch.setattr(planted, "SMOKE", ("mlp",))


def only(monkeypatch, kind, *names):
    """Fewer programs to compile."""
    methods, networks = planted.METHODS[kind]
    kept = [method for method in methods if str(method) in names]
    monkeypatch.setitem(planted.METHODS, kind, (kept, networks))


def run(out, *flags):
    return planted.main(planted.read_config(["--preset", "smoke", "--out", str(out), "--draws", "2", *flags]))


def test_planted(tmp_path, monkeypatch, capsys):
    only(monkeypatch, "comparison", "deep_align")
    results = run(tmp_path)
    found = results["recovery"]["mlp"]
    assert set(found) == {"deep_align"} and found["deep_align"]["draws"][0] == 1.0
    assert json.loads((tmp_path / "planted" / "results.json").read_text())["recovery"] == results["recovery"]
    assert (tmp_path / "planted" / "planted.png").exists() and (tmp_path / "planted" / "sharing-vit.png").exists()
    assert report.recovery_table(results) in capsys.readouterr().out


def test_methods_that_descend_have_a_task_of_their_own(tmp_path, monkeypatch):
    """The outputs of the network itself, by which straight-through finds nearly all units."""
    only(monkeypatch, "descent", "straight_through")
    monkeypatch.setattr(planted.report, "sharing_figure", lambda *_: None)
    found = run(tmp_path, "--methods", "descent")["recovery"]["mlp"]
    assert found["straight_through"]["units"][0] > 0.9 and (tmp_path / "planted-descent" / "results.json").exists()


def test_elements_of_every_kind(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(planted.report, "sharing_figure", lambda *_: None)
    results = run(tmp_path, "--methods", "kinds")
    found = results["recovery"]["mlp"]["weight_matching"]
    assert found["draws"] == [1.0] and 0 < found["left"][0] < planted.ROUNDING
    assert report.recovery_table(results) in capsys.readouterr().out


def test_methods_have_the_names_of_earlier_results():
    names = {kind: [str(method) for method in methods] for kind, (methods, _) in planted.METHODS.items()}
    compared = [
        *("weight_matching", "anchored_matching", "features+weight_matching"),
        *("activation_matching_correlation", "deep_align"),
    ]
    assert names == {
        "comparison": compared,
        "descent": ["straight_through", "sinkhorn", "refine"],
        "kinds": ["weight_matching"],
    }


def test_an_unknown_preset():
    with pytest.raises(SystemExit):
        planted.read_config(["--preset", "none"])
