"""`dwalign report` of a folder, a results file and a recipe."""

import json

import pytest
import yaml

from dwalign.cli import main


@pytest.fixture
def results():
    recovery = {"mlp": {"naive": {"draws": [0.0], "units": [0.1]}}}
    return {"experiment": "planted", "config": {"noise": [0.0]}, "recovery": recovery}


def test_a_folder_a_file_and_the_same_page(results, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results))
    pages = [tmp_path / "one.html", tmp_path / "two.html"]
    for source, output in zip((tmp_path, tmp_path / "results.json"), pages, strict=True):
        assert main(["report", str(source), "-o", str(output)]) == 0
    assert capsys.readouterr().out.split() == [str(output) for output in pages]
    assert pages[0].read_text() == pages[1].read_text() and "<h1>planted</h1>" in pages[0].read_text()


def test_a_recipe(tmp_path):
    found = {"weights": 9, "arrays": 2, "groups": {}, "moving": 0.5, "method": "naive", "output": "m.npz"}
    recipe = {"command": "merge", "options": {"files": ["a.npz", "b.npz"]}, "found": found}
    (tmp_path / "m.recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["report", str(tmp_path / "m.recipe.yaml"), "-o", str(tmp_path / "page.html")]) == 0
    assert "<h1>m.npz</h1>" in (tmp_path / "page.html").read_text()


def test_what_cannot_be_read_ends_with_one_line(results, tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results)[:40])
    (tmp_path / "spec.recipe.yaml").write_text("command: align\noptions: {}\n")
    for source, message in (
        (tmp_path, "must be whole JSON"),
        (tmp_path / "none", "must be a results file that can be read"),
        (tmp_path / "spec.recipe.yaml", "results must hold one of"),
        (tmp_path / "none.yaml", "must be a recipe"),
    ):
        assert main(["report", str(source), "-o", str(tmp_path / "page.html")]) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    source = tmp_path / "results.json"
    assert main(["report", str(source), "-o", str(source)]) == 2 and "another file" in capsys.readouterr().err
    assert source.exists() and not (tmp_path / "page.html").exists()
