"""The study of aligners for vision transformers, on untrained ones: who learns on what, and what is judged."""

import json

import jax
import numpy as np
import pytest
import study
import train_transformer
import transformer_aligner as experiment

from dwalign import report, zoo
from dwalign.evaluation import Curve, Measured
from dwalign.networks import vit
from dwalign.program import Data
from dwalign.symmetry import count_networks, take_networks


def drawn(draw, network, *counts):
    shapes = lambda count: jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), network.params)
    return zoo.Zoo(network, *(draw(shapes(count), count) for count in counts), cached=False)


@pytest.fixture(scope="module")
def small(draw):
    """A zoo of 3, 2 and 4 networks."""
    return drawn(draw, vit((4, 4, 1), 2, 4, 1, 2, width=6), 3, 2, 4)


@pytest.fixture(scope="module")
def data():
    inputs = np.random.default_rng(0).normal(size=(12, 4, 4, 1)).astype(np.float32)
    part = Data(inputs, np.arange(12) % 10)
    return zoo.Dataset("noise", part, part, part, 10)


def read(tmp_path):
    return experiment.read_config(
        ["--preset", "smoke", "--out", str(tmp_path), "--networks.pairs", "2", "--aligner.probes", "4"]
    )


def learned(monkeypatch, config, nets, data):
    """What the training is told, and the aligner that it starts with."""
    seen = {}

    def train_aligners(plain, nets, train, few, validation, folder):
        model = experiment.deepalign.make_model(nets.network, plain.aligner, few.inputs)
        example = take_networks(nets.train, 0)
        variables = experiment.deepalign.init_state(model, plain.training, example, 7).variables
        seen.update(plain=plain, nets=nets, train=train, validation=validation)
        return [experiment.deepalign.Trained(experiment.deepalign.Aligner(model, variables), 0, [])]

    monkeypatch.setattr(study, "train_aligners", train_aligners)
    return experiment.train(config, nets, data, None), seen


def test_who_learns_on_what_and_which_passes_there_are(tmp_path, monkeypatch, draw, small, data):
    config, nets = read(tmp_path), experiment.folded(small)
    assert [count_networks(part) for part in nets[1:4]] == [3, 2, 4]
    apply = jax.jit(jax.vmap(small.network.apply, (0, None)))
    folded = jax.jit(jax.vmap(nets.network.apply, (0, None)))
    for before, after in zip(small[1:4], nets[1:4], strict=True):
        np.testing.assert_allclose(apply(before, data.test.inputs), folded(after, data.test.inputs), atol=1e-4)

    aligner, seen = learned(monkeypatch, config, nets, data)
    assert {"orthogonal", "permutation"} == set(seen["nets"].network.spec.kinds.values())
    assert aligner.model.spec == seen["nets"].network.spec and not seen["plain"].aligner.descent
    assert [count_networks(part) for part in seen["nets"][1:3]] == [3, 2]

    wide = experiment.folded(drawn(draw, vit((4, 4, 1), 2, 8, 2, 2, width=12), 1, 1, 1))
    methods = experiment.passes(config, wide.network, take_networks(wide.test, 0), aligner, data.train.inputs)
    assert [method.name for method in methods] == [
        experiment.UNTRAINED,
        "deep_align",
        experiment.DESCENT,
    ]
    before, after, whole = (method.options["aligner"] for method in methods)
    assert [one.model.descent for one in (before, after, whole)] == [0, 0, config.aligner.descent]
    probes = lambda aligner: np.asarray(aligner.variables["params"]["encoder"]["readout"])
    assert (probes(after) == probes(aligner)).all() and (probes(whole) == probes(aligner)).all()
    assert (probes(before) != probes(aligner)).any()
    np.testing.assert_array_equal(whole.variables["params"]["inputs"], data.train.inputs[:4])


def test_what_is_judged_and_written(tmp_path, monkeypatch, capsys, small, data):
    config, asked = read(tmp_path), []

    def judge(config, network, networks, pairs, aligner, data):
        asked.append((network, networks, [index.tolist() for index in pairs]))
        loss = np.array([[1.0, 3.0, 1.0], [1.0, 2.0, 1.0]])
        accuracy = np.array([[1.0, 0.5, 1.0]] * 2)
        measured = lambda share: Measured(Curve(np.linspace(0, 1, 3), loss * share, accuracy), np.ones(1), None)
        return {"naive": measured(1.0), "Deep-Align": measured(0.5)}

    monkeypatch.setattr(train_transformer, "make_data", lambda base: data)
    monkeypatch.setattr(train_transformer, "make_network", lambda *_: small.network)
    monkeypatch.setattr(train_transformer, "make_networks", lambda *_: small)
    monkeypatch.setattr(study, "make_zoo", lambda *_: small)
    for name, one in {"folded": lambda nets: nets, "train": lambda *_: None, "judge": judge}.items():
        monkeypatch.setattr(experiment, name, one)
    results = experiment.main(study.change(config, {"wider": (8,)}))
    assert report.read_json(tmp_path / "vit-aligner" / "results.json") == json.loads(json.dumps(results))
    assert report.series_table(results) in capsys.readouterr().out
    # those of the zoo apart from one another, of the few wider ones all
    assert [pairs for *_, pairs in asked] == [[[0, 2], [1, 3]], [[0, 0, 0, 1, 1, 2], [1, 2, 3, 2, 3, 3]]]
    assert all(networks is small.test for _, networks, _ in asked)
    shares = results["panels"]["share of the naive barrier"]
    assert [one["Deep-Align"]["mean"] for one in shares.values()] == [0.5, 0.5]
