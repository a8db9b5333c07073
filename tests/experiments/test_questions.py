"""The options of the questions, what they measure with, and aligners that move to other widths."""

import importlib
import typing

import jax
import numpy as np

from dwalign import deepalign
from dwalign.networks import build
from dwalign.symmetry import inverse, permute, random_perms

questions = importlib.import_module("questions")


def test_every_question_can_be_asked():
    choices = typing.get_args(typing.get_type_hints(questions.Config)["question"])
    assert set(choices) == set(questions.QUESTIONS)
    assert all(question.__doc__.rstrip().endswith((".", "?")) for question in questions.QUESTIONS.values())
    assert questions.read_config(["--preset", "smoke", "--question", "losses"]).steps == 20


def test_points_are_turned_round():
    found = questions.across([1, 2], [{"a": "a1", "b": "b1"}, {"a": "a2", "b": "b2"}])
    assert found == {"a": {"1": "a1", "2": "a2"}, "b": {"1": "b1", "2": "b2"}}


def test_an_aligner_moves_to_other_widths():
    narrow, wide = (build(questions.describe_network((w, w))) for w in (6, 9))
    config = questions.read_config(["--channels", "8", "--depth", "1", "--features", "16", "--updates", "1"])
    shape = deepalign.AlignerConfig("graph", 8, 1, 16, 1)
    model = deepalign.make_model(narrow, shape, np.zeros((2, 64)))
    a = narrow.init(jax.random.key(0))
    aligner = deepalign.Aligner(model, model.init(jax.random.key(1), a, a))
    moved = questions.adapt(aligner, wide.spec, config)
    v, hidden = wide.init(jax.random.key(2)), random_perms(wide.spec, jax.random.key(3))
    found = deepalign.deep_align(wide.spec, v, permute(wide.spec, v, hidden), aligner=moved).perms
    for group, perm in inverse(wide.spec, hidden).items():
        np.testing.assert_array_equal(found[group], perm)


def test_the_flat_encoder_is_not_equivariant():
    net = build(questions.describe_network((6, 5)))
    v, g = net.init(jax.random.key(0)), random_perms(net.spec, jax.random.key(1))
    encoder = questions.FlatEncoder(net.spec, features=4, hidden=8)
    variables = encoder.init(jax.random.key(2), v)
    here, there = (encoder.apply(variables, params) for params in (v, permute(net.spec, v, g)))
    assert all(np.abs(there[name] - here[name][g[name]]).max() > 1e-2 for name in here)
