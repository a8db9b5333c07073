"""The laws of Deep-Align where more than the order of units is free: signs, scales, rotations and maps."""

import functools

import jax
import numpy as np
import pytest

from dwalign.deepalign import Aligner, DeepAlign, deep_align
from dwalign.encoders import GraphEncoder, ProbeEncoder
from dwalign.matching import matched
from dwalign.symmetry import distance, inverse, permute, random_perms
from tests import drawn
from tests.deepalign.untrained import untrained
from tests.matching.test_kinds import declared

# signs of a tanh layer and of sine layers, scales, both, rotations between heads, and states of a GRU
NAMES = (
    *(f"graph {name}" for name in ("tanh", "sine", "relu", "gated", "vit_folded", "gru")),
    *(f"probe {name}" for name in ("sine", "without_gains")),
)


@functools.cache
def case(name):
    """The network, two of its kind, and an aligner of which no parameter has the value that it starts with."""
    encoder, name = name.split()
    net, a = declared(name)
    b = declared(name, 1)[1]
    spec = matched(net).spec
    if encoder == "graph":
        made = GraphEncoder(spec, features=16, channels=16, rounds=1)
    else:
        inputs = drawn.normal(12, *net.example.shape[1:], seed=2)
        made = ProbeEncoder(spec, capture=net.capture, inputs=inputs, features=8, rounds=1)
    model = DeepAlign(spec, made, updates=1)
    return net, a, b, Aligner(model, untrained(model, a))


def moved(name, params, seed):
    net = case(name)[0]
    element = random_perms(net.spec, np.random.default_rng(seed))
    return element, permute(net.spec, params, element)


def solve(name, a, b):
    """The alignment, and b as it puts it."""
    net, _, _, aligner = case(name)
    found = deep_align(net, a, b, aligner=aligner)
    return found.perms, permute(net.spec, b, found.perms)


def assert_close(spec, one, two, than):
    assert distance(spec, one, two) <= 1e-3 * distance(spec, one, than)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_planted_is_found_untrained(name):
    net, a, *_ = case(name)
    for seed in range(3):
        b = moved(name, a, seed)[1]
        assert_close(net.spec, a, solve(name, a, b)[1], than=b)


@pytest.mark.parametrize("name", NAMES)
def test_equivariance_and_swap(name):
    net, a, b, _ = case(name)
    element, aligned = solve(name, a, b)
    g, ga = moved(name, a, 1)
    _, hb = moved(name, b, 2)
    assert_close(net.spec, permute(net.spec, aligned, g), solve(name, ga, hb)[1], than=hb)
    swapped = solve(name, b, a)[1]
    assert_close(net.spec, permute(net.spec, a, inverse(net.spec, element)), swapped, than=b)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(element))
