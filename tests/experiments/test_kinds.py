"""The study of kinds on a few small networks: everything is measured, and what is written can be read."""

import json

import jax
import kinds
import numpy as np
from flax import linen as nn
from paired import cases, pairs

from dwalign import report
from dwalign.matching import naive, weight_matching
from dwalign.networks import build


def test_kinds(tmp_path, monkeypatch, capsys):
    methods = (naive, weight_matching)
    relu = lambda: build(dict(kind="mlp", inputs=64, widths=[6], outputs=10))
    odd = lambda: cases.of_digits(cases.Tanh((6,)))
    monkeypatch.setitem(kinds.CASES, "MLP", kinds.CASES["MLP"]._replace(network=relu, methods=methods))
    monkeypatch.setitem(kinds.CASES, "tanh MLP", kinds.CASES["tanh MLP"]._replace(network=odd, methods=methods))
    config = kinds.Config("smoke", str(tmp_path), ("MLP", "tanh MLP"), ("MLP",), images=64, steps=5)
    results = kinds.main(config)
    written, factors = (report.read_json(tmp_path / "kinds" / f"{name}.json") for name in ("results", "factors"))
    assert written == json.loads(json.dumps(results)) and (tmp_path / "kinds" / "kinds.png").exists()
    assert report.series_table(written) in (said := capsys.readouterr().out) and report.series_table(factors) in said

    found = written["panels"]["barrier, x order of units"]
    served = {setting: {name for name in found if setting in found[name]} for setting in written["settings"]}
    assert served["MLP, weight matching"] == {kinds.MATCHED, kinds.AVERAGED, kinds.ALL}
    assert served["tanh MLP, weight matching"] == {kinds.ALL, kinds.FIXED}
    assert found[kinds.MATCHED]["MLP, naive"]["mean"] == 1, "without a matching there is nothing to serve"
    far = factors["panels"]["how far from equal norms"]
    assert all(0 < series["MLP"]["mean"] < 1 for series in far.values())


def test_a_ratio_is_that_of_the_means():
    found = pairs.ratio(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert found == {"mean": 0.5, "ci95": [0.5, 0.5]}, "what is half as much in every pair is half for sure"
    assert pairs.ratio(np.array([1.0, 3.0]), np.array([3.0, 1.0]))["mean"] == 1


def test_cells_have_signs():
    for cell in (nn.SimpleCell, nn.GRUCell):
        network = cases.of_digits(cases.Rows(cell, 4))
        full = pairs.with_all_kinds(network, network.init(jax.random.key(0)), np.zeros((2, 8, 8, 1), np.float32))
        assert dict(full.spec.kinds) == {"h0": "sign"}
