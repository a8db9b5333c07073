"""Out of distribution: an aligner of train_cnn.py, without retraining, on networks of other data (Table 3).

    python experiments/train_cnn.py && python experiments/ood.py
    python experiments/ood.py --others rotated_photo_patches mnist --data-dir DIR

Takes the options of train_cnn.py; the aligners are those in OUT/<network>-<dataset>. Writes runs/ood-<other>/ for each
of the other data sets: config.json, results.json, figures.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import study
import train_cnn

from dwalign import deepalign, report, zoo
from dwalign.assignment import assign
from dwalign.matching import activation_matching
from dwalign.networks import Network
from dwalign.symmetry import Alignment


@dataclasses.dataclass(frozen=True)
class Config(train_cnn.Config):
    """Judge aligners for CNNs on networks that were trained on other data."""

    others: tuple[str, ...] = ("rotated_photo_patches", "mnist")
    """data sets of the new domains."""
    trust: float = 1.0
    """weight of the activations in the new domain, beside the aligner's scores."""


TARGETS = [
    report.Target("deep_align", "barrier", 1.0, study.MATCHING),
    report.Target("deep_align_activations", "barrier", 1.0, study.MATCHING),
    report.Target("deep_align_activations+refine", "barrier", 0.8, ["sinkhorn"]),
]


def read_config(args: list[str]) -> Config:
    """Command line to config, with the presets of train_cnn."""
    presets: dict[str, Any] = {"smoke": train_cnn.SMOKE, "default": {}, "paper": train_cnn.PAPER}
    return study.read_options(Config, args, lambda first: presets[first.preset], __doc__)


def fit(data: zoo.Dataset, shape: tuple[int, ...]) -> zoo.Dataset:
    """Pictures of another data set in this shape: averaged down, padded or cut around the middle, channels repeated."""

    def one(batch):
        pictures = batch.inputs
        for axis in (1, 2):
            missing = shape[axis - 1] - pictures.shape[axis]
            if missing > 0:
                width = [(missing // 2, missing - missing // 2) if k == axis else (0, 0) for k in range(4)]
                pictures = np.pad(pictures, width, mode="edge")
            start = max(-missing, 0) // 2
            pictures = np.take(pictures, range(start, start + shape[axis - 1]), axis)
        if pictures.shape[3] != shape[2]:
            pictures = np.repeat(pictures.mean(3, keepdims=True), shape[2], 3)
        return zoo.Batch(np.ascontiguousarray(pictures), batch.labels)

    # a half-sized picture with an edge keeps more of a digit than its middle alone
    sides = data.train.inputs.shape[1:3]
    data = study.shrink(data, -(-min(sides) // max(1, round(min(sides) / shape[0]))))
    return data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))


def with_activations(network: Network, aligner: deepalign.Aligner, batch: study.Data, trust: float) -> study.Method:
    """The aligner's scores plus `trust` times correlations of activations on a batch, both at unit spread.

    Both terms obey the laws of the aligner (equivariance and swap), so their sum does.
    """

    def spread(scores):
        centred = scores - scores.mean((-2, -1), keepdims=True)
        return centred / (centred.std((-2, -1), keepdims=True) + 1e-6)

    def method(a, b, *, key):
        predicted = deepalign.deep_align(network.spec, a, b, aligner=aligner).scores
        seen = activation_matching(network.spec, a, b, capture=network.capture, batch=batch, correlation=True).scores
        scores = {g: spread(predicted[g]) + trust * spread(seen[g]) for g in predicted}
        return Alignment(assign(scores), scores)

    return method


def main(config: Config) -> list[dict]:
    """Run the experiment; returns what each results.json holds."""
    trained_in = Path(config.out) / f"{config.network}-{config.dataset}"
    aligners = [
        deepalign.load_aligner(trained_in / f"seed-{seed}" / "checkpoints" / "best") for seed in range(config.seeds)
    ]
    home = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    shape = home.train.inputs.shape[1:]
    found = []
    for other in config.others:
        folder, settings = study.open_folder(config, f"ood-{other}")

        # ---- networks of the new domain ------------------------------------------------------------------------------
        data = fit(zoo.load(other, data_dir=config.data_dir), shape)
        if data.classes != home.classes:
            raise zoo.DataError(f"{other} must have the {home.classes} classes of {config.dataset}, has {data.classes}")
        train, test = study.to_device(data.train), study.to_device(data.test)
        few = (train[0][: config.refine_images], train[1][: config.refine_images])
        only_test = dataclasses.replace(config, train_networks=0, validation_networks=0)
        nets = study.make_zoo(only_test, train_cnn.describe_network(config, shape, data.classes), data)

        # ---- every method on them ------------------------------------------------------------------------------------
        def methods(aligner, nets=nets, train=train, few=few):
            predict = with_activations(nets.network, aligner, train, config.trust)
            refined = partial(study.optimisers(config, nets.network, train, few, study.CLASSIFICATION)[1])
            own = {"deep_align_activations": predict, "deep_align_activations+refine": study.then(predict, refined)}
            return study.learned(config, nets.network, aligner, train, few, longest=aligner is aligners[0]) | own

        fixed = study.baselines(config, nets.network, train, few)
        measured = study.judge(config, nets, test, fixed, [methods(aligner) for aligner in aligners])
        found.append(
            study.write_report(
                folder, f"ood-{other}", settings, study.networks_in(nets), measured, aligners, targets=TARGETS
            )
        )
    return found


if __name__ == "__main__":
    study.run(main, read_config)
