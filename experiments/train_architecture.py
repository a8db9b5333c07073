"""Learned alignment beyond the paper: residual networks with batch normalisation, vision transformers, mixers.

    python experiments/train_architecture.py --network mixer --data-dir DIR        MNIST, half an hour on 2 CPU cores
    python experiments/train_architecture.py --network vit --dataset photo_patches
    python experiments/train_architecture.py --network resnet20 --preset smoke     a check in a few minutes

The study of train_mlp.py for any network of `dwalign.networks`: specs are read off the programs, encoders built from
the specs. Batch statistics of merged networks are computed anew on training images, for every method.
Writes runs/<network>-<dataset>/: config.json, results.json, figures; metrics.jsonl and checkpoints of each aligner.
"""

from typing import Any, Literal

import study
import train_cnn

from dwalign import deepalign, zoo
from dwalign.bounds import Amount, Count, settings
from dwalign.networks import build
from dwalign.program import Network

NETWORKS: dict[str, dict[str, Any]] = {
    "mixer": dict(kind="mixer", patch=7, dim=32, depth=2, tokens=32, width=64),
    "vit": dict(kind="vit", patch=7, dim=32, depth=2, heads=4, width=64),
    "resnet20": dict(kind="resnet20", width=16, depth=20, norm="batch"),
}


@settings
class Config(study.Options):
    """Train and judge aligners for networks that the paper leaves open."""

    dataset: Literal["mnist", "photo_patches", "fashion_mnist", "cifar10"] = "mnist"
    """photo_patches needs no data on disk; the others are read through TFDS."""
    network: Literal["mixer", "vit", "resnet20"] = "mixer"
    side: Count = 28
    """pictures larger than this are averaged down to it, by a whole factor."""
    patch: Count = 7
    """of mixer and vit; divides the sides of the pictures."""

    networks: study.Networks = study.Networks(train=140, validation=20, pairs=16, chunk=20)
    recipe: zoo.Recipe = zoo.Recipe(epochs=4)
    # few inputs of the probe encoder and of descent keep steps quick
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(channels=32, descent=20, probes=64)
    training: deepalign.Optimisation = deepalign.Optimisation(steps=200, batch_size=8, images=64, hard=True)
    # layers that normalise take no scaling of single units
    augmentation: zoo.Augmentation = zoo.Augmentation(scaling=0.0)
    unrolled: Amount | None = 0
    validate_every: Count = 50
    refine_images: Count | None = 256
    chunk: Count = 4


# one network at a time: convolutions of many networks at once are slower
RESNET: study.Changes = {
    "side": 14,
    "networks.train": 24,
    "networks.validation": 4,
    "networks.pairs": 3,
    "networks.chunk": 1,
    "recipe.epochs": 2,
    "training.batch_size": 4,
    "validate_every": 20,
    "chunk": 1,
    "sinkhorn_iterations": 200,
    "points": 5,
}
SMOKE: study.Changes = {**train_cnn.SMOKE, "patch": 4, "aligner.descent": 0, "unrolled": None}


def read_config(args: list[str]) -> Config:
    """Command line to config."""

    def own(first):
        pictures = {"side": 32, "patch": 8} if first.dataset in ("photo_patches", "cifar10") else {}
        return {**pictures, **(RESNET if first.network == "resnet20" else {})}

    return study.read_options(Config, args, __doc__, own=own, smoke=SMOKE)


def make_network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network for pictures of this shape."""
    network = NETWORKS[config.network] | dict(shape=list(shape), outputs=classes)
    return build(network | (dict(patch=config.patch) if "patch" in network else {}))


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    network = make_network(config, data.train.inputs.shape[1:], data.classes)
    return study.compare(config, f"{config.network}-{config.dataset}", network, data, study.TARGETS)


if __name__ == "__main__":
    study.run(main, read_config)
