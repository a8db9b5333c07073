"""Sizes that one aligner is trained on, chosen by and judged on are different ones; what it ships comes back."""

import json

import numpy as np
import train_sizes

from dwalign import deepalign
from dwalign.evaluation import benchmark


def test_no_size_plays_two_roles():
    config = train_sizes.Config()
    sizes = [*config.seen, *config.choose, *config.unseen]
    assert len(set(sizes)) == len(sizes)
    depths = [len(size.split("-")) for size in config.seen]
    # the deepest come last, for the state is made for these
    assert depths[-1] == max(depths)


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
