"""Made-up measurements; no alignment is computed for a report."""

import copy

import numpy as np
import pytest

from dwalign.evaluation import Curve, Measured
from dwalign.report import Target, make_results

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
