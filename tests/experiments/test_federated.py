"""Clients share out the data, and a run of them ends with an accuracy for each setting and round."""

import json

import federated
import numpy as np
import pytest

from dwalign.program import Data


def test_every_example_has_one_client():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    data = Data(np.arange(200.0)[:, None], labels)
    clients = federated.split(data, 4, 3, 0.5, rng)
    owned = [set(inputs[:, 0].tolist()) for inputs in clients.inputs]
    assert set.union(*owned) == set(range(200)) and sum(map(len, owned)) == 200
    assert np.array_equal(labels[clients.inputs[..., 0].astype(int)], clients.labels)


@pytest.mark.long
def test_federated(tmp_path, monkeypatch):
    monkeypatch.setattr(federated, "SETTINGS", (federated.SETTINGS[0], federated.SETTINGS[3]))
    config = federated.read_config(["--preset", "smoke", "--rounds", "1", "--out", str(tmp_path)])
    results = federated.main(config)
    stored = json.loads((tmp_path / "federated-digits" / "results.json").read_text())
    assert stored["curves"] == results["curves"] and len(results["curves"]) == 2
    one, own = ([run[0] for run in runs] for runs in results["curves"].values())
    assert 0.2 < one[0] <= 1 and 0 <= own[0] <= 1
    # three clients send and receive two copies of every weight in float32
    assert results["bytes_per_round"] == 2 * 3 * 4 * (64 * 32 + 32 + 2 * (32 * 32 + 32) + 32 * 10 + 10)
