"""Options and networks of the picture experiments, and pictures made smaller. The study is that of train_mlp."""

import importlib

import numpy as np

from dwalign import zoo
from dwalign.program import Data

experiment = importlib.import_module("train_cnn")
beyond = importlib.import_module("train_architecture")
study = importlib.import_module("study")


def test_networks_of_every_preset_can_be_built():
    for preset, network, groups in (("default", "cnn", 1), ("smoke", "vgg", 2)):
        config = experiment.read_config(["--preset", preset, "--network", network])
        net = experiment.make_network(config, (config.side, config.side, 3), 10)
        assert len(net.spec.sizes) == groups * len(config.filters) + len(config.widths)


def test_other_architectures_can_be_built():
    for preset, network, dataset, channels in (
        ("smoke", "mixer", "mnist", 1),
        ("default", "vit", "photo_patches", 3),
    ):
        config = beyond.read_config(["--preset", preset, "--network", network, "--dataset", dataset])
        net = beyond.make_network(config, (config.side, config.side, channels), 10)
        assert net.spec.sizes and not net.spec.unknown


def test_presets():
    assert experiment.read_config(["--dataset", "mnist"]).side == 14
    config = beyond.read_config(["--network", "resnet20", "--dataset", "photo_patches"])
    # what a network asks for comes after what a data set does
    assert (config.side, config.patch, config.networks.train, config.points) == (14, 8, 24, 5)
    assert config.training.hard and config.training.images == 64 and config.augmentation.scaling == 0
    assert experiment.read_config(["--preset", "paper", "--dataset", "cifar10"]).networks.pairs == 1000


def test_shrinking_averages():
    pictures = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)
    batch = Data(pictures, np.zeros(3, np.int32))
    data = zoo.Dataset("pictures", batch, batch, batch, 10)
    small = study.shrink(data, 14)
    assert small.test.inputs.shape == (3, 14, 14, 1)
    np.testing.assert_allclose(small.train.inputs[1, 2, 3, 0], pictures[1, 4:6, 6:8, 0].mean(), rtol=1e-5)
    assert study.shrink(data, 16) is data
