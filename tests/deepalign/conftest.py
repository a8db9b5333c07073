"""A tiny zoo of untrained networks and an aligner for every encoder."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from dwalign.deepalign import AlignerConfig, make_model
from dwalign.networks import mlp
from dwalign.program import Data

CONFIG = AlignerConfig(channels=8, depth=2, features=16, updates=2, probes=24)


@pytest.fixture(scope="session")
def network():
    return mlp(6, (7, 5, 7), 3)


@pytest.fixture(scope="session")
def networks(network):
    """Twelve networks with biases that are not zero, stacked."""

    def one(key):
        params = network.init(key)
        return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.fold_in(key, x.size), x.shape), params)

    return jax.vmap(one)(jax.random.split(jax.random.key(0), 12))


@pytest.fixture(scope="session")
def data():
    inputs = jax.random.normal(jax.random.key(1), (64, 6))
    return Data(inputs, jnp.argmax(inputs[:, :3], -1))


SHAPES = {kind: dataclasses.replace(CONFIG, encoder=kind) for kind in ("dws", "graph", "probe")}
SHAPES["descent"] = dataclasses.replace(CONFIG, encoder="graph", descent=2)


@pytest.fixture(scope="session", params=SHAPES)
def model(request, network, data):
    return make_model(network, SHAPES[request.param], data.inputs)


@pytest.fixture(scope="session")
def graph_model(network, data):
    return make_model(network, dataclasses.replace(CONFIG, encoder="graph", depth=1, updates=1), data.inputs)
