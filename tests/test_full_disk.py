"""Whoever writes says in one line which file a full or vanished disk has no room for, and leaves nothing half."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from dwalign import deepalign, files, report
from dwalign.cli.recipe import write_card, write_recipe
from dwalign.deepalign.shipped import Shipped, write_shipped
from tests.files.test_writing import full_disk, listing

OURS = (files.FileError, report.ResultsError, report.RunError, deepalign.CheckpointError)
SERIES = {
    "axis": "steps",
    "settings": [1, 2],
    "panels": {"loss": {"ours": {"1": report.point([[1.0]]), "2": report.point([[0.5]])}}},
}
LONG = {"text": "x" * 300}


@dataclasses.dataclass
class Asked:
    output: Path


WRITERS = {
    "results.json": lambda file: report.write_json(file, LONG),
    "config.json": lambda file: report.open_run(file.parent, LONG),
    "figure.png": lambda file: report.series_figure(SERIES, file),
    "page.html": lambda file: report.write_whole(file, "x" * 300),
    "a.recipe.yaml": lambda file: write_recipe("align", Asked(file.with_name("a.npz")), [], LONG),
    "a.md": lambda file: write_card(file.with_name("a.npz"), "a", ["x" * 300]),
    "any.safetensors": lambda file: write_shipped(
        "any", *[Shipped(deepalign.AlignerConfig(), {"w": np.ones(99)})] * 2, LONG, file.parent
    ),
    "params.safetensors": lambda file: files.save_params(file, {"w": np.ones(99)}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_left_as_it_was(name, tmp_path):
    for folder in ("warm", "run"):
        (tmp_path / folder).mkdir()
    WRITERS[name](tmp_path / "warm" / name)
    with full_disk(200), pytest.raises(OURS, match=name.replace(".", r"\.")) as caught:
        WRITERS[name](tmp_path / "run" / name)
    assert "\n" not in str(caught.value) and "free space" in str(caught.value)
    assert listing(tmp_path / "run") == []


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("config.json", "any.safetensors")])
def test_a_folder_that_has_vanished_is_named(name, tmp_path):
    (tmp_path / "run").mkdir()
    WRITERS[name](tmp_path / "run" / name)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OURS, match=r"(make the folder again|make /.*run)"):
        WRITERS[name](tmp_path / "run" / name)
    assert listing(tmp_path) == []
