"""Options and networks of the picture experiments, and pictures made smaller. The study is that of train_mlp."""

import importlib

import numpy as np

from dwalign import zoo
from dwalign.networks import build

experiment = importlib.import_module("train_cnn")
beyond = importlib.import_module("train_architecture")
study = importlib.import_module("study")


def test_networks_of_every_preset_can_be_built():
    for preset in ("smoke", "default"):
        for network, groups in (("cnn", 1), ("vgg", 2)):
            config = experiment.read_config(["--preset", preset, "--network", network])
            net = build(experiment.describe_network(config, (config.side, config.side, 3), 10))
            assert len(net.spec.sizes) == groups * len(config.filters) + len(config.widths)


def test_other_architectures_can_be_built():
    for preset in ("smoke", "default"):
        for network in beyond.NETWORKS:
            for dataset, channels in (("mnist", 1), ("photo_patches", 3)):
                config = beyond.read_config(["--preset", preset, "--network", network, "--dataset", dataset])
                net = build(beyond.describe_network(config, (config.side, config.side, channels), 10))
                assert net.spec.sizes and not net.spec.unknown
    assert beyond.read_config(["--network", "resnet20"]).side == 14


def test_presets():
    assert experiment.read_config(["--dataset", "mnist"]).side == 14
    assert experiment.read_config(["--preset", "paper", "--dataset", "cifar10"]).test_pairs == 1000


def test_shrinking_averages():
    pictures = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
    batch = zoo.Batch(pictures, np.zeros(3, np.int32))
    data = zoo.Dataset("pictures", batch, batch, batch, 10)
    small = study.shrink(data, 14)
    assert small.test.inputs.shape == (3, 14, 14, 1)
    np.testing.assert_allclose(small.train.inputs[1, 2, 3, 0], pictures[1, 4:6, 6:8, 0].mean(), rtol=1e-5)
    assert study.shrink(data, 16) is data
