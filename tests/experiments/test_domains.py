"""Data of other domains take the shape of the aligner's, clients divide the data."""

import importlib

import jax
import numpy as np
import pytest

from dwalign import zoo
from dwalign.networks import cnn

disjoint = importlib.import_module("disjoint")
ood = importlib.import_module("ood")


def pictures(side, channels, count=2000):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count).astype(np.int32)
    batch = zoo.Batch(random.normal(size=(count, side, side, channels)).astype(np.float32), labels)
    return zoo.Dataset("pictures", batch, batch, batch, 10)


def test_clients_divide_the_data():
    data = pictures(2, 1)
    data.train.inputs[:, 0, 0, 0] = np.arange(2000)
    parts = disjoint.split(data, 2, 0.95)
    seen = np.concatenate([part.train.inputs[:, 0, 0, 0] for part in parts])
    assert sorted(seen.tolist()) == list(range(2000))
    shares = [float((part.train.labels < 5).mean()) for part in parts]
    assert shares[0] > 0.9 and shares[1] < 0.1
    homes = [np.unique(part.train.labels).tolist() for part in disjoint.split(data, 8, 1.0)]
    assert homes == [[0, 1], [2], [3], [4], [5, 6], [7], [8], [9]]


def test_pictures_take_the_shape():
    for side, channels in ((28, 1), (32, 3), (96, 3), (16, 3), (8, 1)):
        fitted = ood.fit(pictures(side, channels, count=3), (16, 16, 3))
        assert fitted.train.inputs.shape == fitted.test.inputs.shape == (3, 16, 16, 3)
    same = pictures(16, 3, count=3)
    np.testing.assert_array_equal(ood.fit(same, (16, 16, 3)).test.inputs, same.test.inputs)


@pytest.mark.parametrize("descent", [0, 2])
def test_aligner_and_activations_obey_the_swap_law(descent):
    network = cnn((8, 8, 3), (4,), (5,), 3)
    a, b = (network.init(jax.random.key(k)) for k in range(2))
    shape = ood.deepalign.AlignerConfig(channels=8, depth=1, features=8, updates=0, descent=descent)
    batch = (jax.random.normal(jax.random.key(2), (20, 8, 8, 3)), np.zeros(20, np.int32))
    model = ood.deepalign.make_model(network, shape, batch[0])
    aligner = ood.deepalign.Aligner(model, model.init(jax.random.key(3), a, b))
    method = ood.with_activations(network, aligner, batch, 1.0)
    found, swapped = (method(*pair, key=jax.random.key(0)).scores for pair in ((a, b), (b, a)))
    for g in found:
        np.testing.assert_allclose(found[g], swapped[g].T, atol=1e-3)


def test_networks_for_judging_alone_share_no_seed_with_training(tmp_path):
    data = pictures(2, 1, count=20)
    config = ood.read_config(["--preset", "smoke", "--out", str(tmp_path), "--epochs", "1", "--zoo-batch-size", "20"])
    network = {"kind": "mlp", "inputs": 4, "widths": [3], "outputs": 10}
    home, alone = ood.study.make_zoo(config, network, data), ood.study.make_test_zoo(config, network, data)
    kernel = lambda part: jax.tree.leaves(part)[1].reshape(zoo.size(part), -1)
    shared = (kernel(home.train)[:, None] == kernel(alone.test)[None]).all(-1)
    assert zoo.size(alone.test) == 2 * config.test_pairs and not shared.any()
