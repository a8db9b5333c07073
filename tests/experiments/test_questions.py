"""The options of the questions, what they measure with."""

import importlib
import typing
from types import SimpleNamespace

import jax
import numpy as np

from dwalign.networks import build
from dwalign.symmetry import permute, random_perms

modules = ("questions", "asked.bench", "asked.cost", "asked.symmetry")
questions, bench, cost, symmetry = map(importlib.import_module, modules)


def test_every_question_can_be_asked():
    choices = typing.get_args(typing.get_type_hints(questions.Config)["question"])
    assert set(choices) == set(questions.QUESTIONS)
    assert all(question.__doc__.rstrip().endswith((".", "?")) for question in questions.QUESTIONS.values())
    assert questions.read_config(["--preset", "smoke", "--question", "losses"]).steps == 20


def test_points_are_turned_round():
    found = bench.across([1, 2], [{"a": "a1", "b": "b1"}, {"a": "a2", "b": "b2"}])
    assert found == {"a": {"1": "a1", "2": "a2"}, "b": {"1": "b1", "2": "b2"}}


def test_an_aligner_pays_off_against_what_is_slower_and_no_better():
    measured = {
        name: SimpleNamespace(curve=SimpleNamespace(barrier=np.array([barrier])), seconds=np.array([seconds]))
        for name, barrier, seconds in [
            ("weight_matching", 0.5, 0.03),
            ("sinkhorn", 0.1, 2.0),
            ("activation_matching", 0.4, 0.005),
            ("deep_align", 0.2, 0.01),
            ("deep_align+refine", 0.05, 0.1),
        ]
    }
    found = cost.paid_off(100.0, measured, "deep_align")
    assert {name: one["mean"] for name, one in found.items()} == {"weight matching": 5000.0}
    assert set(cost.paid_off(100.0, measured, "deep_align+refine")) == {"Sinkhorn re-basin"}


def test_presets_and_data_sets_give_defaults():
    options = importlib.import_module("train_mlp").read_config
    assert options(["--dataset", "mnist"]).train_networks == 1000
    assert options(["--dataset", "mnist", "--preset", "paper"]).train_networks == 8000
    assert options(["--dataset", "mnist", "--preset", "paper", "--train-networks", "7"]).train_networks == 7
    assert importlib.import_module("ood").read_config(["--preset", "paper"]).test_pairs == 200


def test_the_flat_encoder_is_not_equivariant():
    net = build(bench.describe_network((6, 5)))
    v, g = net.init(jax.random.key(0)), random_perms(net.spec, jax.random.key(1))
    encoder = symmetry.FlatEncoder(net.spec, features=4, hidden=8)
    variables = encoder.init(jax.random.key(2), v)
    here, there = (encoder.apply(variables, params) for params in (v, permute(net.spec, v, g)))
    assert all(np.abs(there[name] - here[name][g[name]]).max() > 1e-2 for name in here)
