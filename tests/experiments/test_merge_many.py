"""Merging of many networks on a few small ones: everything is measured, and what is written can be read."""

import json

import merge_many

from dwalign import report


def test_merge_many(tmp_path, monkeypatch, capsys):
    data, described, recipe = merge_many.KINDS["mlp"]
    monkeypatch.setitem(merge_many.KINDS, "mlp", (data, described | dict(widths=[6]), recipe))
    monkeypatch.setattr(merge_many, "WAYS", {way: merge_many.WAYS[way] for way in merge_many.REPAIRED[:1]})
    flags = ["--preset", "smoke", "--counts", "2", "--pool", "4", "--out", str(tmp_path)]
    results = merge_many.main(merge_many.read_config(flags))
    found = results["networks"]["mlp"]
    assert set(found) == {"one network alone", "ensemble", *merge_many.REPAIRED[:1]}
    assert all(0 < one["2"]["accuracy"]["mean"] < 1 for one in found.values())
    assert set(results["repair"]["mlp"][merge_many.REPAIRED[0]]) == {
        *("not", "REPAIR, 16 images", "REPAIR, hidden layers alone", "RESCALE"),
    }
    assert report.read_json(tmp_path / "merge_many" / "results.json") == json.loads(json.dumps(results))
    assert (tmp_path / "merge_many" / "merge_many.png").exists()
    assert report.merging_table(results) in capsys.readouterr().out


def test_the_share_won_back():
    pairs = [{"accuracy": 0.8, "lost": 0.4, "won": 0.2}, {"accuracy": 0.9, "lost": 0.2, "won": 0.1}]
    found = merge_many.won_back(pairs)
    assert found["accuracy"]["mean"] == 0.85 and found["won_back"]["mean"] == 0.5
    assert "won_back" not in merge_many.won_back([{"accuracy": 0.5, "lost": 0.4, "won": 0.0}])
