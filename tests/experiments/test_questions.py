"""The options of the questions, what they measure with."""

import importlib
import typing
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import study

from dwalign import report, zoo
from dwalign.deepalign import deep_align
from dwalign.matching import refine
from dwalign.program import Data
from dwalign.symmetry import permute, random_perms

modules = ("questions", "asked.bench", "asked.cost", "asked.symmetry", "asked.training")
questions, bench, cost, symmetry, training = map(importlib.import_module, modules)


def test_every_question_can_be_asked():
    choices = typing.get_args(typing.get_type_hints(questions.Config)["question"])
    assert set(choices) == set(questions.QUESTIONS)
    assert all(question.__doc__.rstrip().endswith((".", "?")) for question in questions.QUESTIONS.values())
    assert questions.read_config(["--preset", "smoke", "--question", "losses"]).training.steps == 20


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
    trained = lambda *flags: options(["--dataset", "mnist", *flags]).networks.train
    assert trained() == 1000 and trained("--preset", "paper") == 8000
    assert trained("--preset", "paper", "--networks.train", "7") == 7
    assert importlib.import_module("ood").read_config(["--preset", "paper"]).networks.pairs == 200
    with pytest.raises(report.RunError, match=r"one of \['default', 'paper', 'smoke'\] here, found 'hour'"):
        options(["--preset", "hour"])


def test_settings_are_changed_by_the_names_of_their_flags():
    config = bench.Config()
    changed = study.change(config, {"aligner.updates": 0, "seeds": 2, "aligner.depth": 5})
    assert (changed.aligner.updates, changed.aligner.depth, changed.seeds) == (0, 5, 2)
    assert changed.aligner.encoder == config.aligner.encoder == "graph" and config.aligner.updates == 3
    with pytest.raises(TypeError, match="heads"):
        study.change(config, {"aligner.heads": 1})


def test_points_of_several_seeds(monkeypatch):
    """A method is judged once for each aligner, under the names that tables give it."""
    asked = []

    def benchmark(network, methods, a, b, test, **options):
        asked.append([str(method) for method in methods])
        curve = SimpleNamespace(barrier=np.full(2, float(len(asked))))
        return {name: SimpleNamespace(curve=curve) for name in asked[-1]}

    monkeypatch.setattr(importlib.import_module("study.judging"), "benchmark", benchmark)
    pair = {"w": np.zeros((4, 1))}
    data = zoo.Dataset("none", *[Data(np.zeros((2, 64)), np.zeros(2, np.int32))] * 3, 10)
    nets = zoo.Zoo(SimpleNamespace(spec=None), pair, pair, pair, cached=True)
    here = bench.Bench(study.change(bench.Config(), {"networks.pairs": 2}), None, data, nets)
    found = training.before_and_after(here, [deep_align, deep_align], refine.using(steps=5))
    assert asked == [["deep_align"]] * 2 + [["deep_align+refine@5"]] * 2
    assert {name: one["mean"] for name, one in found.items()} == {
        "Deep-Align": 1.5,
        "Deep-Align + refinement (5 steps)": 3.5,
    }


def test_the_flat_encoder_is_not_equivariant(draw):
    net = bench.make_network((5,))
    v, g = draw(net.params, 0), random_perms(net.spec, jax.random.key(1))
    encoder = symmetry.FlatEncoder(net.spec, features=4, hidden=8)
    variables = draw(jax.eval_shape(encoder.init, jax.random.key(2), v), 1)
    here, there = (encoder.apply(variables, params) for params in (v, permute(net.spec, v, g)))
    assert np.abs(there["h0"] - here["h0"][g["h0"]]).max() > 1e-2
