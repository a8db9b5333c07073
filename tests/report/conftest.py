"""Made-up measurements; no alignment is computed for a report."""

import copy

import numpy as np
import pytest

from dwalign.evaluation import Curve, Measured, confidence
from dwalign.networks import mlp
from dwalign.report import Target, make_clearness, make_results, make_sharing, page
from dwalign.symmetry import identity
from tests import drawn

BARRIERS = {
    "deep_align+refine": 0.05,
    "sinkhorn": 0.1,
    "naive": 2.0,
    "weight_matching": 1.0,
    "deep_align": 0.3,
    "activation_matching": 0.4,
}
TARGETS = [
    Target("deep_align", "barrier", 0.8, ["activation_matching", "weight_matching"]),
    Target("deep_align+refine", "barrier", 0.4, ["sinkhorn"]),
]


def make_up(barrier, *, seconds=0.01, pairs=4, seed=0):
    """A parabola of the given height over the line from 0.1 to 0.2."""
    lambdas = np.linspace(0, 1, 5)
    heights = barrier * (1 + 0.1 * np.random.default_rng(seed).normal(size=(pairs, 1)))
    loss = 0.1 + 0.1 * lambdas + heights * 4 * lambdas * (1 - lambdas)
    return Measured(Curve(np.tile(lambdas, (pairs, 1)), loss, np.exp(-loss)), seconds * np.array([0.9, 1.1]), None)


@pytest.fixture(scope="session")
def measured():
    return {
        name: [make_up(barrier, seed=seed) for seed in range(3 if name.startswith("deep_align") else 1)]
        for name, barrier in BARRIERS.items()
    }


@pytest.fixture(scope="session")
def made(measured):
    return make_results("mlp-made-up", {"widths": [32, 32]}, {"networks": 9}, measured, TARGETS)


@pytest.fixture
def results(made):
    """A copy that a test may change."""
    return copy.deepcopy(made)


HOSTILE = "<script>alert(1)</script> & \"b\" 'c' $x$ \ud800.safetensors"


@pytest.fixture(scope="session")
def merged():
    """The recipe of a merge of two made-up networks, one of which has a name that is markup."""
    net = mlp(4, (3, 2), 2)
    a, b = (drawn.weights(net.params, seed) for seed in (0, 1))
    line = lambda height: {"lambdas": [0.0, 0.5, 1.0], "loss": [0.2, height, 0.3], "accuracy": [0.97, 0.5, 0.968]}
    found = {
        "weights": 29,
        "arrays": 6,
        "groups": {"h0": [3], "h1": [4, 2]},
        "moving": 0.931,
        "fixed": {"an input of the program": 1, "x < y": 2},
        "unknown": {"fft": "net.py:3"},
        "method": "weight_matching",
        "networks": 2,
        "output": "out/merged.safetensors",
        "judged": {
            "a.safetensors": {"loss": 0.2, "accuracy": 0.97},
            HOSTILE: {"loss": 0.3, "accuracy": 0.968},
            "average without matching": {"loss": 2.25, "accuracy": 0.31},
            "merged": {"loss": 0.35, "accuracy": 0.961},
        },
        "curve": {HOSTILE: {"before": line(2.25), "after": line(0.35)}},
        "confidence": {HOSTILE: make_clearness(confidence(net.spec, a, b, identity(net.spec)), "weights")},
        "sharing": make_sharing(net.spec),
    }
    return {
        "dwalign": "0.1.0",
        "command": "merge",
        "options": {"files": ["a.safetensors", HOSTILE], "data": "train.npz", "test": "test.npz"},
        "read": {"a.safetensors": "ab" * 32},
        "found": found,
    }


@pytest.fixture
def recipe(merged):
    """A copy that a test may change."""
    return copy.deepcopy(merged)


@pytest.fixture(scope="session")
def experiment_page(made):
    return page(made)


@pytest.fixture(scope="session")
def merge_page(merged):
    return page(merged)
