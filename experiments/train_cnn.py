"""Deep-Align for CNN classifiers: the paper's Table 2, every method timed on the same machine in the same run.

    python experiments/train_cnn.py                                       photo_patches, about an hour on 2 CPU cores
    python experiments/train_cnn.py --network vgg
    python experiments/train_cnn.py --dataset mnist --data-dir DIR        or cifar10, stl10
    python experiments/train_cnn.py --preset smoke                        a check in a few minutes

Writes runs/<network>-<dataset>/: config.json, results.json, figures; metrics.jsonl and checkpoints of each aligner.
"""

import dataclasses
from typing import Any, Literal

import study

from dwalign import zoo


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Train and judge aligners for CNNs."""

    dataset: Literal["photo_patches", "mnist", "cifar10", "stl10"] = "photo_patches"
    """photo_patches is cut from pictures inside scikit-image and scikit-learn; the others are read through TFDS."""
    network: Literal["cnn", "vgg"] = "cnn"
    """convolutions that each halve the picture, or stages of two convolutions."""
    side: int = 16
    """pictures larger than this are averaged down to it, by a whole factor."""
    filters: tuple[int, ...] = (8, 16, 32)
    """channels of each convolution (cnn) or stage (vgg)."""
    widths: tuple[int, ...] = (64,)
    """of the dense layers before the last."""
    task_images: int = 64
    """drawn in each training step for the mode-connectivity loss."""

    train_networks: int = 300
    validation_networks: int = 20
    test_pairs: int = 16
    # one network at a time: on a CPU convolutions of many networks at once are slower
    zoo_chunk: int = 1
    chunk: int = 1
    epochs: int = 6
    zoo_learning_rate: float = 2e-3
    descent: int = 20
    unrolled: int | None = 5
    steps: int = 100
    alignment: float = 0.0
    validate_every: int = 25
    batch_size: int = 8
    channels: int | None = 32
    probes: int = 64
    refine_images: int = 256


SMOKE = study.SMOKE | dict(
    train_networks=10,
    validation_networks=4,
    test_pairs=2,
    zoo_chunk=9,
    epochs=1,
    filters=(4, 8),
    widths=(16,),
    side=8,
    descent=1,
    unrolled=1,
    steps=4,
    validate_every=2,
    refine_images=128,
    target_pairs=4,
)
PAPER = dict(
    side=32,
    filters=(16, 32, 64),
    train_networks=8000,
    validation_networks=100,
    test_pairs=1000,
    zoo_chunk=100,
    epochs=40,
    steps=25000,
    batch_size=32,
    task_images=256,
    chunk=50,
)


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    # half of the 28 pixels of a digit
    own = lambda first: dict(side=14) if first.dataset == "mnist" else {}
    return study.read_options(Config, args, __doc__, own=own, smoke=SMOKE, paper=PAPER)


def describe_network(config: Config, shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    """The network's config for pictures of this shape."""
    common = {"kind": config.network, "shape": list(shape), "widths": list(config.widths), "outputs": classes}
    if config.network == "vgg":
        return common | {"stages": [[width, width] for width in config.filters]}
    return common | {"channels": list(config.filters)}


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    network = describe_network(config, data.train.inputs.shape[1:], data.classes)
    experiment = f"{config.network}-{config.dataset}"
    results = study.compare(config, experiment, network, data, study.TARGETS, images=config.task_images)
    study.print_paper_table(results)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
