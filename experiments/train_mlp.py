"""Deep-Align for MLP classifiers, end to end: images -> zoo -> aligner -> every method on held-out pairs -> one table.

    python experiments/train_mlp.py                                   digits, about 4 minutes on 2 CPU cores
    python experiments/train_mlp.py --dataset mnist --data-dir DIR    784-128-128-128-10
    python experiments/train_mlp.py --dataset photo_patches           768-64-64-64-10, about 10 minutes
    python experiments/train_mlp.py --preset smoke                    a check in about a minute

Writes runs/mlp-<dataset>/: config.json, metrics.jsonl and checkpoints of each aligner seed, results.json, figures.
"""

from typing import Literal

import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.bounds import Count, settings
from dwalign.networks import mlp


@settings
class Config(study.Options):
    """Train and judge aligners for MLPs."""

    dataset: Literal["digits", "photo_patches", "mnist", "fashion_mnist", "cifar10"] = "digits"
    """digits is inside scikit-learn, photo_patches is cut from pictures there; the others are read through TFDS."""
    side: Count = 32
    """pictures larger than this are averaged down to it, by a whole factor."""
    widths: tuple[Count, ...] = (32, 32, 32)

    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(channels=32, descent=5)
    training: deepalign.Optimisation = deepalign.Optimisation(steps=300)
    losses: deepalign.LossWeights = deepalign.LossWeights(alignment=0.0)
    """the alignment loss pulls weights together, and so away from what descent finds."""
    validate_every: Count = 50
    chunk: Count = 25


MNIST: study.Changes = {
    "widths": (128, 128, 128),
    "networks.train": 1000,
    "networks.chunk": 25,
    "recipe.epochs": 8,
    "recipe.learning_rate": 1e-3,
    "aligner.encoder": "graph",
    "aligner.channels": 64,
    # on few inputs, or trained through, descent does harm here
    "aligner.descent": 3,
    "unrolled": 0,
    "aligner.probes": 256,
    "losses.alignment": 1.0,
    "training.batch_size": 8,
    "training.steps": 1000,
    "validate_every": 200,
    "chunk": 5,
}
PHOTOS: study.Changes = {
    **MNIST,
    "side": 16,
    "widths": (64, 64, 64),
    "networks.train": 300,
    "networks.pairs": 20,
    "networks.chunk": 50,
    "aligner.descent": 5,
    "unrolled": None,
    "aligner.probes": 128,
    "losses.alignment": 0.0,
    "training.steps": 300,
    "validate_every": 50,
    "refine_images": 768,
}

SMOKE: study.Changes = {**study.SMOKE, "aligner.descent": 1}

# those of digits and MNIST, besides what is asked of every row
TARGETS = {
    "digits": [
        report.Target("deep_align", "barrier", 0.8, study.MATCHING),
        report.Target("deep_align", "barrier", 0.4, ["weight_matching"]),
        report.Target("deep_align+refine", "barrier", 0.6, ["sinkhorn"]),
        report.Target("deep_align+refine", "barrier", 1.0, ["activation_matching_correlation+refine"]),
        report.Target("deep_align", "seconds_per_pair", 2.0, ["weight_matching"]),
    ],
    "mnist": [
        report.Target("deep_align", "barrier", 0.5, ["activation_matching"]),
        report.Target("deep_align", "barrier", 0.75, ["activation_matching_correlation"]),
        report.Target("deep_align", "barrier", 0.21, ["activation_matching"]),
        report.Target("deep_align+refine", "barrier", 0.9, ["sinkhorn"]),
        report.Target("deep_align", "seconds_per_pair", 2.0, ["weight_matching"]),
    ],
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    own: dict[str, study.Changes] = {"digits": {}, "photo_patches": PHOTOS}
    return study.read_options(Config, args, __doc__, own=lambda first: own.get(first.dataset, MNIST), smoke=SMOKE)


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    network = mlp(int(np.prod(data.train.inputs.shape[1:])), config.widths, data.classes)
    targets = [*TARGETS.get(config.dataset, []), *study.TARGETS]
    return study.compare(config, f"mlp-{config.dataset}", network, data, targets)


if __name__ == "__main__":
    study.run(main, read_config)
