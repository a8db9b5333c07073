"""Sizes that one aligner is trained on, chosen by and judged on are different ones; what it ships comes back."""

import json
import types

import numpy as np
import pytest
import train_sizes

from dwalign import deepalign, zoo
from dwalign.evaluation import benchmark
from dwalign.program import Data


def test_no_size_plays_two_roles():
    config = train_sizes.Config()
    sizes = [*config.seen, *config.choose, *config.unseen]
    assert len(set(sizes)) == len(sizes)


def test_steps_take_the_sizes_in_turn(tmp_path, monkeypatch):
    taken, kept = [], {}
    config = train_sizes.read_config(["--preset", "smoke"])
    data = zoo.Dataset("digits", *[Data(np.zeros((8, 4), np.float32), np.zeros(8, int))] * 3, classes=3)
    a_zoo = lambda config, network, data: zoo.Zoo(network, *[{"of": np.zeros((2, 1))}] * 3, cached=True)
    monkeypatch.setattr(train_sizes.study, "make_zoo", a_zoo)
    monkeypatch.setattr(train_sizes, "mean_barrier", lambda *args, **options: None)
    record = lambda model, network, *args, **options: lambda state: taken.append(tuple(network.spec.sizes.values()))
    monkeypatch.setattr(deepalign, "make_step", record)
    monkeypatch.setattr(deepalign, "init_state", lambda *args, others: None)
    monkeypatch.setattr(deepalign, "train_aligner", lambda model, step, state, **options: kept.update(step=step))
    train_sizes.train(config, data, tmp_path)
    for number in range(4):
        kept["step"](types.SimpleNamespace(step=number))
    assert taken == [(8,), (6, 6)] * 2


@pytest.mark.long
def test_the_whole_road(tmp_path, monkeypatch):
    written: list = []
    monkeypatch.setattr(deepalign, "write_shipped", lambda *args: written.append(args))
    # few programs to compile
    kept = {"weight_matching", "deep_align"}
    few = lambda network, methods, *args, **options: benchmark(
        network, [method for method in methods if str(method) in kept], *args, **options
    )
    monkeypatch.setattr(train_sizes, "benchmark", few)
    config = train_sizes.read_config(["--preset", "smoke", "--out", str(tmp_path), "--ship"])
    results = train_sizes.main(config)
    assert results["settings"] == list(config.unseen)
    assert {"Deep-Align", "weight matching"} == set(results["panels"]["barrier"])
    ((name, shipped, blind, card),) = written
    assert name == "digits" and blind is None and shipped.config == config.aligner
    assert card["barrier"]["Deep-Align"]["10-6"] == results["panels"]["barrier"]["Deep-Align"]["10-6"]["mean"]
    assert json.loads((tmp_path / "sizes-digits" / "results.json").read_text())["settings"] == results["settings"]
    assert np.isfinite([point["mean"] for point in results["panels"]["barrier"]["Deep-Align"].values()]).all()
