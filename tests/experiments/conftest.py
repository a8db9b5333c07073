"""The scripts import one another as siblings, as they do when one is run; networks are drawn without compiling."""

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
