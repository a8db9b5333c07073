"""Documents get their tables from results files; a second run changes nothing and --check sees what is stale."""

import importlib.util
import runpy
import sys

import pytest

from dwalign.report import ResultsError, fill, generate, markdown_table, write_results
from dwalign.report.__main__ import main

DOCUMENT = """# Title

<!-- results: results/made-up.json -->
<!-- /results -->

Text after.
"""


@pytest.fixture
def folder(tmp_path, results):
    (tmp_path / "results").mkdir()
    (tmp_path / "docs").mkdir()
    write_results(tmp_path / "results" / "made-up.json", results)
    (tmp_path / "README.md").write_text(DOCUMENT)
    (tmp_path / "docs" / "more.md").write_text(DOCUMENT * 2)
    return tmp_path


def run(*args):
    return main([str(arg) for arg in args])


def test_fills_between_the_marks(folder, results):
    assert run(folder / "README.md", folder / "docs" / "more.md") == 0
    text = (folder / "README.md").read_text()
    assert text == DOCUMENT.replace("-->\n<!-- /", f"-->\n\n{markdown_table(results)}\n\n<!-- /")
    assert (folder / "docs" / "more.md").read_text() == 2 * text
    assert {file.name for file in folder.iterdir()} == {"README.md", "docs", "results"}


def test_idempotent(folder):
    run(folder / "README.md")
    text = (folder / "README.md").read_text()
    assert fill(text, folder=folder) == text
    assert generate([str(folder / "README.md")]) == []


def test_check(folder, results, capsys):
    readme = folder / "README.md"
    assert run("--check", readme) == 1 and "README.md: tables are stale" in capsys.readouterr().out
    assert readme.read_text() == DOCUMENT, "--check writes nothing"
    run(readme)
    assert run("--check", readme) == 0

    readme.write_text(readme.read_text().replace("Text after", "Another text"))
    assert run("--check", readme) == 0
    readme.write_text(readme.read_text().replace("2.", "1.", 1))
    assert run("--check", readme) == 1, "a number typed by hand"

    run(readme)
    results["methods"]["naive"]["barrier"]["mean"] += 1
    write_results(folder / "results" / "made-up.json", results)
    assert run("--check", readme) == 1, "new results"


def test_documents_without_marks(tmp_path):
    (tmp_path / "README.md").write_text("no table")
    assert run("--check", tmp_path / "README.md") == 0 and run("--check") == 0


def test_marks_in_code_are_left_alone(folder):
    text = f"```\n{DOCUMENT}```\nIn a sentence: <!-- results: gone.json --> is a mark.\n"
    assert fill(text, folder=folder) == text


@pytest.mark.parametrize(
    "text, message",
    [
        ("a\n<!-- results: results/made-up.json -->\n", "line 2: a table must be closed"),
        ("<!-- /results -->\n", "line 1: .*must follow its opening mark; found none"),
        ("<!-- results: results/made-up.json -->\n" * 2, "line 2: .*found one open since line 1"),
        (
            "<!-- results: gone.json -->\n<!-- /results -->\n",
            "line 1: gone.json must be a results file in .*found none",
        ),
    ],
)
def test_bad_marks(folder, capsys, text, message):
    file = folder / "README.md"
    file.write_text(text)
    with pytest.raises(ResultsError, match=message):
        generate([str(file)])
    assert run(file) == 2 and "error:" in capsys.readouterr().err
    assert file.read_text() == text


def test_one_bad_document_and_none_is_written(folder):
    (folder / "docs" / "more.md").write_text("<!-- /results -->\n")
    assert run(folder / "README.md", folder / "docs" / "more.md") == 2
    assert (folder / "README.md").read_text() == DOCUMENT


def test_broken_results(folder, capsys):
    (folder / "results" / "made-up.json").write_text('{"experiment": ')
    assert run("--check", folder / "README.md") == 2
    assert "made-up.json must be whole JSON" in capsys.readouterr().err


def test_missing_document(tmp_path, capsys):
    assert run(tmp_path / "gone.md") == 2 and "gone.md must be a markdown document" in capsys.readouterr().err


def test_command_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["report", "--check", "README.md"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(importlib.util.find_spec("dwalign.report.__main__").origin, run_name="__main__")
    assert ended.value.code == 1 and "README.md: tables are stale" in capsys.readouterr().out


def test_methods_of_several_experiments(folder, results):
    del results["methods"]["sinkhorn"]
    write_results(folder / "results" / "without.json", results)
    mark = "<!-- methods: results/made-up.json results/without.json{} -->\n<!-- /methods -->\n"
    text = fill(mark.format(""), folder=folder).replace("\N{NO-BREAK SPACE}", " ")
    assert "| method | needs | mlp-made-up | mlp-made-up |" in text
    assert "| naive | nothing | 100.0%, 0.010 s | 100.0%, 0.010 s |" in text
    assert "| weight matching | weights | 50.0%, 0.010 s | 50.0%, 0.010 s |" in text
    assert "| Sinkhorn re-basin | inputs, labels | 5.0%, 0.010 s |  |" in text, "the second has none"
    assert "| Deep-Align + refinement | an aligner, inputs, labels |" in text

    few = fill(mark.format(" naive deep_align"), folder=folder)
    assert "Deep-Align | an aligner |" in few and "Sinkhorn" not in few and "weight matching" not in few
    with pytest.raises(ResultsError, match="must be among those measured"):
        fill(mark.format(" naive refine"), folder=folder)
    del results["methods"]["naive"]
    write_results(folder / "results" / "without.json", results)
    with pytest.raises(ResultsError, match="must hold 'naive'"):
        fill(mark.format(""), folder=folder)


def test_other_kinds_of_tables(folder, results):
    import json

    paper = {"source": "a paper", "experiments": {results["experiment"]: {"what": "theirs", "methods": {}}}}
    ours = list(results["methods"])
    methods = {name: {"barrier": 0.5} for name in (*ours, "activation_matching", "straight_through")}
    paper["experiments"][results["experiment"]]["methods"] = methods
    (folder / "results" / "paper.json").write_text(json.dumps(paper))
    text = fill("<!-- paper: results/made-up.json -->\n<!-- /paper -->\n", folder=folder)
    assert "theirs (a paper)" in text and "| activation matching | 0.500 |" in text and "| 1.00 | 1.00 |" in text
    assert "| straight-through | 0.500 | - |" in text
    paper["experiments"] = {"theirs-alone": paper["experiments"].popitem()[1]}
    (folder / "results" / "paper.json").write_text(json.dumps(paper))
    named = "<!-- paper: results/made-up.json theirs-alone -->\n<!-- /paper -->\n"
    assert "theirs (a paper)" in fill(named, folder=folder)
    with pytest.raises(ResultsError, match="experiment must be one of"):
        fill(named.replace(" theirs-alone", ""), folder=folder)
    recovery = {"config": {"noise": [0.0]}, "recovery": {"mlp": {"naive": {"draws": [0.25], "units": [0.5]}}}}
    (folder / "results" / "planted.json").write_text(json.dumps(recovery))
    text = fill("<!-- recovery: results/planted.json -->\n<!-- /recovery -->\n", folder=folder)
    assert "| mlp | 25% |" in text
