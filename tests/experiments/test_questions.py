"""The options of the questions, what they measure with."""

import importlib
import typing

import jax
import numpy as np

from dwalign.networks import build
from dwalign.symmetry import permute, random_perms

questions, bench, symmetry = map(importlib.import_module, ("questions", "asked.bench", "asked.symmetry"))


def test_every_question_can_be_asked():
    choices = typing.get_args(typing.get_type_hints(questions.Config)["question"])
    assert set(choices) == set(questions.QUESTIONS)
    assert all(question.__doc__.rstrip().endswith((".", "?")) for question in questions.QUESTIONS.values())
    assert questions.read_config(["--preset", "smoke", "--question", "losses"]).steps == 20


def test_points_are_turned_round():
    found = bench.across([1, 2], [{"a": "a1", "b": "b1"}, {"a": "a2", "b": "b2"}])
    assert found == {"a": {"1": "a1", "2": "a2"}, "b": {"1": "b1", "2": "b2"}}


def test_the_flat_encoder_is_not_equivariant():
    net = build(bench.describe_network((6, 5)))
    v, g = net.init(jax.random.key(0)), random_perms(net.spec, jax.random.key(1))
    encoder = symmetry.FlatEncoder(net.spec, features=4, hidden=8)
    variables = encoder.init(jax.random.key(2), v)
    here, there = (encoder.apply(variables, params) for params in (v, permute(net.spec, v, g)))
    assert all(np.abs(there[name] - here[name][g[name]]).max() > 1e-2 for name in here)
