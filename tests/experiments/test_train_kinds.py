"""The study of aligners for networks with signs, on untrained ones: who learns on what, and what is written."""

import json

import jax
import numpy as np
import study
import train_kinds
from kinds import ALL, FIXED, ORDER

from dwalign import report, zoo
from dwalign.deepalign import Aligner, Trained, make_model
from dwalign.evaluation import Curve, Measured
from dwalign.symmetry import count_networks


def test_train_kinds(tmp_path, monkeypatch, capsys, draw):
    seen = {}

    def make_zoo(config, network, data):
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((3, *leaf.shape), leaf.dtype), network.params)
        return zoo.Zoo(network, *(draw(shapes, seed) for seed in range(3)), cached=False)

    def train_aligners(config, nets, *_):
        seen[len(seen)] = nets
        return [Trained(Aligner(make_model(nets.network, config.aligner, np.zeros((4, 8, 8, 1))), None), 0, [])]

    def judge(config, nets, fixed, learned, test, train):
        lambdas, loss = np.linspace(0, 1, 3), np.array([[1.0, 1.0 + len(seen), 1.0]])
        measured = Measured(Curve(lambdas, loss, np.array([[1.0, 0.5, 1.0]])), np.zeros(1), None)
        return {str(method): [measured] for method in [*fixed, *learned[0]]}

    for name, one in {"make_zoo": make_zoo, "train_aligners": train_aligners, "judge": judge}.items():
        monkeypatch.setattr(study, name, one)
    monkeypatch.setattr(report, "series_figure", lambda *_: None)
    results = train_kinds.main(train_kinds.Config(out=str(tmp_path), widths=(5,)))
    assert report.read_json(tmp_path / "kinds-aligners" / "results.json") == json.loads(json.dumps(results))
    assert report.series_table(results) in capsys.readouterr().out

    order, fixed, all_ = seen.values()
    assert [list(nets.network.spec.kinds.values()) for nets in seen.values()] == [["permutation"]] * 2 + [["sign"]]
    first = lambda nets: np.asarray(nets.train["params"]["dense_0"]["bias"])
    assert (first(order) < 0).any() and (first(fixed) >= 0).all() and (first(all_) == first(order)).all()
    assert {count_networks(part) for nets in seen.values() for part in (nets.train, nets.validation, nets.test)} == {3}
    barriers = [results["panels"]["barrier"][way]["Deep-Align"]["mean"] for way in (ORDER, FIXED, ALL)]
    assert barriers == [1, 2, 3]
