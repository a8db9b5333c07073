"""The mutation study on one small network: wrong specs are refused, right ones are not, and the table can be read."""

import json

import mutations

from dwalign import report


def test_mutations(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutations, "OTHERS", {"mlp": dict(kind="mlp", inputs=3, widths=[4, 4], outputs=2)})
    monkeypatch.setattr(mutations, "PICTURES", {})
    results = mutations.main(mutations.Config("smoke", str(tmp_path)))
    written = json.loads((tmp_path / "mutations" / "results.json").read_text())
    assert written["caption"].startswith("mutations: 0 of 4 right specs refused, 0 of 28 wrong ones accepted")
    assert "| no pictures, TF32 | 1 | 0 | 7 | 0 | 0 |" in report.series_table(results) in capsys.readouterr().out
