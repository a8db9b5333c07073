"""The mutation study on one small network: wrong specs are refused, right ones are not, and the table can be read."""

import json

import jax
import mutations

from dwalign import report


def test_mutations(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mutations, "OTHERS", {"mlp": dict(kind="mlp", inputs=3, widths=[4, 4], outputs=2)})
    monkeypatch.setattr(mutations, "PICTURES", {})
    monkeypatch.setattr(mutations, "PRECISIONS", ("TF32", "fp16"))
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    results = mutations.main(mutations.Config("smoke", str(tmp_path)))
    written = json.loads((tmp_path / "mutations" / "results.json").read_text())
    assert written["caption"].startswith("mutations: 0 of 2 right specs refused, 0 of 14 wrong ones accepted")
    said = capsys.readouterr()
    assert "| no pictures, TF32 | 1 | 0 | 7 | 0 | 0 |" in report.series_table(results) in said.out
    assert "mlp, no pictures: done" in said.err, "progress can be seen in a log"
