"""The scripts import one another as siblings, as they do when one is run; networks are drawn without compiling."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dwalign import report

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))


@pytest.fixture(scope="session")
def draw():
    """`draw(shapes, seed)`: random parameters of these shapes."""

    def one(shapes, seed):
        random = np.random.default_rng(seed)
        return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(leaf.dtype), shapes)

    return one


@pytest.fixture
def without_figures(monkeypatch):
    """Those of every study, which tests/report draws, and the test of train_mlp."""
    for name in ("interpolation", "quality", "training", "matrix"):
        monkeypatch.setattr(report, f"{name}_figure", lambda *_: None)


@pytest.fixture
def judged_before(tmp_path):
    """A folder of runs in which train_any.py judged the mixer."""
    import train_any
    from fine_tune_any import BESIDE

    point = {"mixer": {"mean": 1.0, "ci95": [0.9, 1.1]}}
    held = {
        "config": dataclasses.asdict(train_any.Config()),
        "settings": ["mixer"],
        "panels": {"barrier": dict.fromkeys((*BESIDE, "naive"), point)},
    }
    (tmp_path / "any").mkdir()
    report.write_json(tmp_path / "any" / "results.json", json.loads(json.dumps(held)))
    return tmp_path
