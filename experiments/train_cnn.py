"""Deep-Align for CNN classifiers: the paper's Table 2, every method timed on the same machine in the same run.

    python experiments/train_cnn.py                                       photo_patches, about an hour on 2 CPU cores
    python experiments/train_cnn.py --network vgg
    python experiments/train_cnn.py --dataset mnist --data-dir DIR        or cifar10, stl10
    python experiments/train_cnn.py --preset smoke                        a check in a few minutes

Writes runs/<network>-<dataset>/: config.json, results.json, figures; metrics.jsonl and checkpoints of each aligner.
"""

from typing import Literal

import study

from dwalign import deepalign, zoo
from dwalign.bounds import Amount, Count, settings
from dwalign.networks import cnn, vgg
from dwalign.program import Network


@settings
class Config(study.Options):
    """Train and judge aligners for CNNs."""

    dataset: Literal["photo_patches", "mnist", "cifar10", "stl10"] = "photo_patches"
    """photo_patches is cut from pictures inside scikit-image and scikit-learn; the others are read through TFDS."""
    network: Literal["cnn", "vgg"] = "cnn"
    """convolutions that each halve the picture, or stages of two convolutions."""
    side: Count = 16
    """pictures larger than this are averaged down to it, by a whole factor."""
    filters: tuple[Count, ...] = (8, 16, 32)
    """channels of each convolution (cnn) or stage (vgg)."""
    widths: tuple[Count, ...] = (64,)
    """of the dense layers before the last."""

    # one network at a time: on a CPU convolutions of many networks at once are slower
    networks: study.Networks = study.Networks(train=300, validation=20, pairs=16, chunk=1)
    recipe: zoo.Recipe = zoo.Recipe(epochs=6)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(channels=32, descent=20, probes=64)
    training: deepalign.Optimisation = deepalign.Optimisation(steps=100, batch_size=8, images=64)
    losses: deepalign.LossWeights = deepalign.LossWeights(alignment=0.0)
    unrolled: Amount | None = 5
    validate_every: Count = 25
    refine_images: Count | None = 256
    chunk: Count = 1


SMOKE: study.Changes = {
    **study.SMOKE,
    "side": 8,
    "networks.train": 10,
    "networks.validation": 4,
    "networks.pairs": 2,
    "networks.chunk": 9,
    "recipe.epochs": 1,
    "aligner.descent": 1,
    "unrolled": 1,
    "training.steps": 4,
    "validate_every": 2,
    "refine_images": 128,
    "target_pairs": 4,
}
LAYERS: study.Changes = {"filters": (4, 8), "widths": (16,)}
PAPER: study.Changes = {
    "side": 32,
    "filters": (16, 32, 64),
    "networks.train": 8000,
    "networks.validation": 100,
    "networks.pairs": 1000,
    "networks.chunk": 100,
    "recipe.epochs": 40,
    "training.steps": 25000,
    "training.batch_size": 32,
    "training.images": 256,
    "chunk": 50,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    # half of the 28 pixels of a digit
    own = lambda first: {"side": 14} if first.dataset == "mnist" else {}
    return study.read_options(Config, args, __doc__, own=own, smoke={**SMOKE, **LAYERS}, paper=PAPER)


def make_network(config: Config, shape: tuple[int, ...], classes: int) -> Network:
    """The network for pictures of this shape."""
    if config.network == "vgg":
        return vgg(shape, [(width, width) for width in config.filters], config.widths, classes)
    return cnn(shape, config.filters, config.widths, classes)


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    network = make_network(config, data.train.inputs.shape[1:], data.classes)
    experiment = f"{config.network}-{config.dataset}"
    results = study.compare(config, experiment, network, data, study.TARGETS)
    study.print_paper_table(results)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
