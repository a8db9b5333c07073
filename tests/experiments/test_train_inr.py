"""Networks with signals of their own, at toy size: views are paired, judged on their signal, and the figure appears."""

import importlib
import json

import numpy as np
import pytest

from dwalign import deepalign, report
from dwalign.deepalign.model import RATE

TOY = """
    --preset smoke --widths 6 6 --samples 16 --train-networks 6 --validation-networks 2 --test-pairs 2 --zoo-chunk 4
    --epochs 2 --zoo-batch-size 16 --channels 8 --features 8 --depth 1 --steps 2 --validate-every 2 --unrolled 0
    --sinkhorn-iterations 4 --budgets 2 --chunk 2 --batch-size 2 --skip straight_through refine weight_matching@5
    activation_matching_correlation activation_matching_correlation+refine deep_align+refine@5
""".split()


@pytest.fixture(scope="module")
def experiment():
    return importlib.import_module("train_inr")


def test_sines_end_to_end(experiment, tmp_path):
    experiment.main(experiment.read_config([*TOY, "--out", str(tmp_path)]))
    folder = tmp_path / "inr-sines"
    results = report.read_results(folder / "results.json")
    starts = {f"{start}sinkhorn@2" for start in ("", "weight_matching+", "deep_align+")}
    assert {"sinkhorn@0", "sinkhorn", "deep_align"} | starts <= set(results["methods"])
    assert len(results["methods"]["naive"]["barrier"]["values"][0]) == 2
    assert (folder / "barrier_iterations.png").stat().st_size > 5000
    assert set(json.loads((folder / "maps.json").read_text())["maps"]) == {"naive", "weight_matching", "deep_align"}
    aligner = deepalign.load_aligner(folder / "seed-0" / "checkpoints" / "best")
    assert aligner.model.descent == 1  # in use, though no training went through it
    np.testing.assert_allclose(aligner.variables["params"]["rate"], RATE, atol=1e-6)


def test_signals(experiment):
    config = experiment.read_config(["--samples", "33"])
    signals = experiment.make_signals(config, 3, 2)
    assert signals.inputs.shape == signals.labels.shape == (5, 33, 1)
    assert np.abs(signals.inputs).max() == 1 and np.allclose(signals.labels[:, 16], 0, atol=1e-6)
    assert len(np.unique(signals.labels[:, 20])) == 5
    assert experiment.read_config(["--dataset", "mnist"]).views == 5
