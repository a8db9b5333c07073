"""What a merge tells of the way between networks: its ends are the networks, and all of it is JSON and has a page."""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

import dwalign
from dwalign import report
from dwalign.cli.between import POINTS, between
from dwalign.cli.plan import plan
from dwalign.cli.subject import Subject
from dwalign.networks import mlp
from dwalign.symmetry import identity
from tests import drawn

NET = mlp(6, (5, 4), 3)
PARAMS = tuple(drawn.weights(NET.params, seed) for seed in range(2))
DATA = dwalign.Data(drawn.normal(20, 6), np.arange(20) % 3)
PERMS = (identity(NET.spec), drawn.perms(NET.spec))


class File(NamedTuple):
    path: Path


def subject(data):
    files = (File(Path("one/net.npz")), File(Path("two/net.npz")))
    return Subject(NET, files, PARAMS, data, dwalign.CLASSIFICATION, jax.random.key(0))


def test_with_labels():
    found = between(subject(DATA), PARAMS, PERMS, DATA)
    assert list(found["curve"]) == list(found["confidence"]) == ["net.npz (2)"]
    ends = [float(dwalign.evaluation.assess(NET, params, DATA).loss) for params in PARAMS]
    for side in ("before", "after"):
        line = found["curve"]["net.npz (2)"][side]
        assert len(line["lambdas"]) == len(line["accuracy"]) == POINTS
        assert (line["loss"][0], line["loss"][-1]) == pytest.approx(ends, rel=1e-4)
    assert found["confidence"]["net.npz (2)"]["of"] == "activations"
    text = report.page(json.loads(json.dumps(plan(subject(DATA), dwalign.naive) | found)))
    assert text.count("<svg") == 2, "without judged networks there is no way between them to show"


def test_without_data_weights_are_compared():
    found = between(subject(None), PARAMS, PERMS, None)
    assert "curve" not in found and found["confidence"]["net.npz (2)"]["of"] == "weights"
    assert set(found["sharing"]["groups"]) == set(NET.spec.sizes) == set(found["confidence"]["net.npz (2)"]["groups"])
