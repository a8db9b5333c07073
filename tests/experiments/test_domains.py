"""Data of other domains take the shape of the aligner's, clients divide the data."""

import importlib

import jax
import numpy as np
import study

from dwalign import deepalign, zoo
from dwalign.networks import mlp
from dwalign.program import Data

disjoint = importlib.import_module("disjoint")
ood = importlib.import_module("ood")


def pictures(side, channels, count=2000):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count).astype(np.int32)
    batch = Data(random.normal(size=(count, side, side, channels)).astype(np.float32), labels)
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


def test_aligner_and_activations_obey_the_swap_law(draw):
    """And they see the images, by trust and by descent."""
    network = mlp(6, (5,), 3)
    a, b = (draw(network.params, seed) for seed in range(2))
    images, others = (np.random.default_rng(seed).normal(size=(20, 6)).astype(np.float32) for seed in (2, 3))
    config = deepalign.AlignerConfig(channels=4, depth=1, updates=0, descent=1, probes=10)
    model = deepalign.make_model(network, config, images)
    aligner = deepalign.Aligner(model, draw(jax.eval_shape(model.init, jax.random.key(0), a, b), 4))
    method = ood.WITH_ACTIVATIONS.using(aligner=aligner)
    found, swapped = (method(network, *pair, data=Data(images)).scores for pair in ((a, b), (b, a)))
    np.testing.assert_allclose(found["h0"], swapped["h0"].T, atol=1e-3)
    elsewhere = method(network, a, b, data=Data(others)).scores
    assert np.abs(found["h0"] - elsewhere["h0"]).max() > 0.01


def test_networks_for_judging_alone_share_no_seed_with_training(tmp_path, monkeypatch):
    asked = []

    def get_zoo(network, data, recipe, size, *, seed, **_):
        asked.append(range(seed, seed + sum(size)))
        return zoo.Zoo(network, None, None, None, cached=True)

    monkeypatch.setattr(zoo, "get_zoo", get_zoo)
    config = study.Options(out=str(tmp_path), preset="paper")
    config = study.change(config, {**study.PAPER, "recipe.batch_size": 20})
    data, network = pictures(2, 1, count=20), mlp(4, (3,), 10)
    study.make_zoo(config, network, data)
    study.make_test_zoo(config, network, data)
    home, alone = asked
    assert len(home) == 8000 + 100 + 400 and len(alone) == 400 and home.stop <= alone.start
