"""Four MLPs trained on scikit-learn's digits, and specs with every way in which groups can sit on arrays."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dwalign.networks import mlp
from dwalign.symmetry import Axes, PermutationSpec

SPECS = {
    "mlp": mlp(6, (5, 7), 3).spec,
    # a scanned stack: an independent permutation for each layer, no interaction between them
    "stack": PermutationSpec(
        {"up": Axes("layer", None, "units"), "bias": Axes("layer", "units"), "down": Axes("layer", "units", None)},
        {"units": 6},
        batch={"units": ("layer",)},
        fixed={"layer": 3},
    ),
    # the recurrent kernel carries one group twice
    "recurrent": PermutationSpec(
        {"in": Axes(None, "h"), "kernel": Axes("h", "h"), "bias": Axes("h"), "out": Axes("h", None)}, {"h": 6}
    ),
    # attention: heads that are permuted, and units inside each head
    "heads": PermutationSpec(
        {
            "value": Axes(None, "head", "unit"),
            "bias": Axes("head", "unit"),
            "out": Axes(("head", "unit"), None),
            "gate": Axes(None, "head"),
        },
        {"head": 4, "unit": 5},
        batch={"unit": ("head",)},
    ),
    # cells that are permuted, and in each a recurrent kernel
    "cells": PermutationSpec(
        {"in": Axes(None, "cell", "unit"), "kernel": Axes("cell", "unit", "unit"), "out": Axes("cell", "unit", None)},
        {"cell": 3, "unit": 4},
        batch={"unit": ("cell",)},
    ),
}


@pytest.fixture(params=SPECS)
def spec(request):
    return SPECS[request.param]


@pytest.fixture(scope="session")
def specs():
    return SPECS


@pytest.fixture(scope="session")
def draw():
    """`draw(spec, *seeds)`: random parameters that fit a spec, stacked if seeds are several; free axes have size 9."""

    def one(spec, seed):
        rng = np.random.default_rng(seed)
        size = lambda part: 9 if part == (None,) else math.prod(spec.size(name) for name in part)
        make = lambda axes: rng.standard_normal([sum(map(size, dim)) for dim in axes.dims], np.float32)
        return jax.tree.map(make, spec.axes, is_leaf=lambda x: isinstance(x, Axes))

    def make(spec, *seeds):
        return one(spec, *seeds) if len(seeds) == 1 else stack([one(spec, seed) for seed in seeds])

    return make


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@pytest.fixture(scope="session")
def digits():
    """`(net, pairs_a, pairs_b, batch)`: three pairs of networks trained from different seeds, stacked."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, y = jnp.asarray(data.data, jnp.float32), jnp.asarray(data.target)
    x = (x - x.mean()) / x.std()
    net, optimiser = mlp(64, (24, 16), 10), optax.adamw(3e-3)

    def train(key):
        def step(state, key):
            params, opt = state
            index = jax.random.randint(key, (64,), 0, len(y))
            loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(net.apply(p, x[index]), y[index]).mean()
            updates, opt = optimiser.update(jax.grad(loss)(params), opt, params)
            return (optax.apply_updates(params, updates), opt), None

        params = net.init(key)
        return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, 400))[0][0]

    trained = jax.tree.map(np.asarray, jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(0), 6)))
    part = lambda s: jax.tree.map(lambda leaf: leaf[s], trained)
    return net, part(slice(0, 3)), part(slice(3, 6)), (np.asarray(x), np.asarray(y))
