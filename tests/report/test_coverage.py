"""The table of models of others: what was judged, what is missed and why, and the count of it all."""

from dwalign.report import coverage_line, coverage_table, fill

FIGURES = {"groups": 3, "moving": 0.987, "seconds": {"infer_spec": 0.1, "certify": 1.25}, "missed": []}
NOTE = {"path": "w", "dimension": 0, "size": 8}
RESULTS = {
    "experiment": "coverage",
    "left_out": [{"package": "Haiku", "model": name} for name in ("MLP", "ResNet")],
    "environment": {"needs": {"flax": "0.12", "torch": None}},
    "models": [
        {"package": "Keras", "model": "VGG", "verdict": "complete", "recovered": True} | FIGURES,
        {"package": "timm", "model": "ViT", "verdict": "missed", "recovered": False}
        | FIGURES
        | {"missed": [NOTE | {"why": f"order of reshape at net.py:{line}"} for line in (3, 4)]},
        {"package": "timm", "model": "Swin", "verdict": "failed", "message": "too | long"},
        {"package": "timm", "model": "other", "verdict": "not built", "message": "no such size"},
    ],
}


def test_table_says_what_is_missed_once_a_reason():
    lines = coverage_table(RESULTS).splitlines()
    assert lines[2] == "| Keras | VGG | 3 | 99% | 0.10 | 1.25 | complete |"
    assert lines[3].endswith("| missed: 2 x order of reshape |")
    assert lines[4] == "| timm | Swin |  |  |  |  | failed: too / long |"


def test_line_counts_what_was_built():
    line = coverage_line(RESULTS)
    assert line.startswith(
        "coverage: 3 models, 1 complete, 1 missed, 0 refused, 0 wrong, 1 failed; a hidden permutation"
    )
    assert "1 of 2. Not tried: 2 of Haiku." in line and line.endswith("flax 0.12.")


def test_documents_take_it(tmp_path):
    import json

    (tmp_path / "coverage.json").write_text(json.dumps(RESULTS))
    text = "<!-- coverage: coverage.json -->\n<!-- /coverage -->\n"
    assert coverage_table(RESULTS) in fill(text, folder=tmp_path)
