"""A run folder is made, continued, or put aside; what was there is never lost."""

import json
from pathlib import Path

import pytest

from dwalign.files import unsealed
from dwalign.report import RunError, open_run

CONFIG = {"steps": 10, "widths": (32, 32)}


def test_new(tmp_path):
    folder = open_run(tmp_path / "runs" / "a", CONFIG)
    assert unsealed(json.loads((folder / "config.json").read_text())) == {"steps": 10, "widths": [32, 32]}


def test_what_is_there_is_kept(tmp_path, capsys):
    folder = open_run(tmp_path / "a", CONFIG)
    (folder / "metrics.jsonl").write_text("old")
    for number in (1, 2):
        open_run(folder, CONFIG)
        assert (tmp_path / f"a.{number}" / "config.json").exists() and "--resume" in capsys.readouterr().out
    assert (tmp_path / "a.1" / "metrics.jsonl").read_text() == "old"
    assert not (folder / "metrics.jsonl").exists()


def test_resume(tmp_path):
    folder = open_run(tmp_path / "a", CONFIG)
    (folder / "metrics.jsonl").write_text("old")
    assert open_run(folder, CONFIG, resume=True) == folder
    assert (folder / "metrics.jsonl").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_resume_of_nothing_is_a_new_run(tmp_path):
    assert (open_run(tmp_path / "a", CONFIG, resume=True) / "config.json").exists()


def test_resume_with_other_options(tmp_path):
    folder = open_run(tmp_path / "a", CONFIG)
    with pytest.raises(RunError, match=r"steps was 10, is 20.*leave out --resume"):
        open_run(folder, CONFIG | {"steps": 20}, resume=True)
    folder = open_run(tmp_path / "b", {"seeds": 1, "training": {"steps": 10, "images": 4}})
    with pytest.raises(RunError, match=r"configuration \(training\.steps was 10, is 20\)"):
        open_run(folder, {"seeds": 1, "training": {"steps": 20, "images": 4}}, resume=True)


@pytest.mark.parametrize("text, message", [('{"steps"', "is broken"), ("[1]", "found a list")])
def test_resume_of_a_broken_configuration(tmp_path, text, message):
    folder = open_run(tmp_path / "a", CONFIG)
    (folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=f"config.json must be the configuration.*{message}"):
        open_run(folder, CONFIG, resume=True)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(RunError, match=r"must be a folder that can be written.*Permission denied"):
        open_run(tmp_path / "a", CONFIG)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunError, match="must be a folder that can be written"):
        open_run(tmp_path / "b", CONFIG)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "a").write_text("not a folder")
    with pytest.raises(RunError, match="must be a folder"):
        open_run(tmp_path / "a", CONFIG)
