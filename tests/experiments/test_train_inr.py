"""Networks with signals of their own, at toy size: views are paired, judged on their signal, and the figure appears."""

import importlib
import json

import jax
import numpy as np
import pytest
import study

from dwalign import deepalign, report, zoo
from dwalign.program import REGRESSION
from dwalign.symmetry import count_networks

experiment = importlib.import_module("train_inr")
KEPT = {"naive", "weight_matching", "deep_align"}
SMOKE = study.change(study.Options(), study.SMOKE)
OTHERS = {str(method) for method in (*study.baselines(SMOKE), *study.learned(SMOKE))} - KEPT
TOY = f"""
    --preset smoke --widths 5 --samples 16 --networks.train 4 --networks.validation 2 --networks.pairs 2
    --recipe.batch-size 16 --aligner.channels 4 --aligner.depth 0
    --aligner.updates 0 --aligner.probes 8 --training.steps 1 --training.batch-size 2 --training.images 16
    --training.solver scaling --unrolled 0 --budgets 2 --points 3
    --skip sinkhorn@0 sinkhorn@2 {" ".join(sorted(OTHERS))}
""".split()


@pytest.mark.long
def test_sines_end_to_end(tmp_path, without_figures, draw, monkeypatch):
    """All but a zoo, a step of training and distances; what these are made of is looked at."""

    def get_zoo(network, data, recipe, size, *, task, views, **_):
        assert data.train.labels.shape == (5, 16, 1) and tuple(size) == (4, 2, 4) and views == 2 and task == REGRESSION
        many = [[draw(network.params, 10 * role + k) for k in range(count)] for role, count in enumerate(size)]
        return zoo.Zoo(network, *(jax.tree.map(lambda *leaves: np.stack(leaves), *of) for of in many), cached=False)

    def make_step(model, network, networks, data, *, task, views, **_):
        assert model.descent == 0, "no training goes through it"
        assert data.inputs.shape == (2, 16, 1) and count_networks(networks) == 4 and views == 2
        assert task == REGRESSION
        return lambda state: (state._replace(step=state.step + 1), np.zeros(4))

    def aligned_distances(network, networks, method, *, key):
        assert count_networks(networks) == 4 and method.needs != "labels"
        return np.abs(np.subtract.outer(*[np.arange(4.0)] * 2))

    monkeypatch.setattr(zoo, "get_zoo", get_zoo)
    monkeypatch.setattr(deepalign, "make_step", make_step)
    monkeypatch.setattr(experiment, "aligned_distances", aligned_distances)
    experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path)]))
    folder = tmp_path / "inr-sines"
    results = report.read_results(folder / "results.json")
    assert set(results["methods"]) == KEPT | {"weight_matching+sinkhorn@2"}
    assert len(results["methods"]["naive"]["barrier"]["values"][0]) == 2
    assert (folder / "barrier_iterations.png").stat().st_size > 5000
    assert set(json.loads((folder / "maps.json").read_text())["maps"]) == KEPT
    aligner = deepalign.load_aligner(folder / "seed-0" / "checkpoints" / "best")
    assert aligner.model.descent == 1, "it is in use all the same"


def test_signals():
    config = experiment.read_config(["--samples", "33"])
    signals = experiment.make_signals(config, 3, 2)
    assert signals.inputs.shape == signals.labels.shape == (5, 33, 1)
    assert np.abs(signals.inputs).max() == 1 and np.allclose(signals.labels[:, 16], 0, atol=1e-6)
    assert len(np.unique(signals.labels[:, 20])) == 5


def test_pairs_of_views():
    config = experiment.read_config(["--dataset", "mnist"])
    assert config.views == 5 and config.side == 14
    # two disjoint pairs of the five views of a signal
    assert tuple(config.networks.size(config.views)) == (600, 40, 125)
    assert tuple(config.networks.size()) == (600, 40, 100)
