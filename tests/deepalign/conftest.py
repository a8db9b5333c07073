"""A tiny zoo of untrained networks and an aligner for every encoder."""

import dataclasses

import numpy as np
import pytest

from dwalign.deepalign import AlignerConfig, make_model
from dwalign.networks import mlp
from dwalign.program import Data
from tests import drawn
from tests.deepalign.untrained import stack

CONFIG = AlignerConfig(channels=4, depth=2, features=8, updates=2, probes=24)


@pytest.fixture(scope="session")
def network():
    return mlp(6, (7, 5), 3)


@pytest.fixture(scope="session")
def networks(network):
    """Twelve networks with biases that are not zero, stacked."""
    return stack(*(drawn.weights(network.params, seed) for seed in range(12)))


@pytest.fixture(scope="session")
def data():
    inputs = drawn.normal(64, 6, seed=1)
    return Data(inputs, np.argmax(inputs[:, :3], -1))


# the graph encoder is that of the tests of architectures
SHAPES = {kind: dataclasses.replace(CONFIG, encoder=kind) for kind in ("dws", "probe")}
# on noise, of which descent makes dreams
SHAPES["noise"] = dataclasses.replace(CONFIG, encoder="noise", descent=2, images=3)
SHAPES["descent"] = dataclasses.replace(CONFIG, encoder="graph", descent=2)


@pytest.fixture(scope="session", params=SHAPES)
def model(request, network, data):
    return make_model(network, SHAPES[request.param], None if request.param == "noise" else data.inputs)


@pytest.fixture(scope="session")
def graph_model(network, data):
    return make_model(network, dataclasses.replace(CONFIG, encoder="graph", depth=1, updates=1), data.inputs)
