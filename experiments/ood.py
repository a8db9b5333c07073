"""Out of distribution: the aligners of a run, without retraining, on networks of other data (Table 3).

    python experiments/train_mlp.py && python experiments/ood.py --data-dir DIR
    python experiments/ood.py --home cnn-photo_patches --others rotated_photo_patches

Writes runs/ood-<home>-<other>/ for each of the other data sets: config.json, results.json, figures.
"""

from typing import Any

import numpy as np
import study

from dwalign import report, zoo
from dwalign.bounds import Strength, settings
from dwalign.deepalign import Aligner, deep_align
from dwalign.matching import Method, activation_matching_correlation, chain
from dwalign.program import Data, Network
from dwalign.symmetry import Alignment


@settings
class Config(study.Options):
    """Judge aligners on networks that were trained on other data."""

    home: str = "mlp-digits"
    """the run in OUT whose aligners, networks and recipe are taken."""
    others: tuple[str, ...] = ("rotated_digits", "mnist")
    """data sets of the new domains."""
    trust: Strength = 1.0
    """weight of the activations in the new domain, beside the aligner's scores."""


TARGETS = [
    report.Target("deep_align", "barrier", 1.0, study.MATCHING),
    report.Target("deep_align_activations", "barrier", 1.0, study.MATCHING),
    report.Target("deep_align_activations+refine", "barrier", 0.8, ["sinkhorn"]),
    report.Target("deep_align_activations+refine", "barrier", 0.8, ["weight_matching+sinkhorn"]),
    report.Target("deep_align_activations+refine", "seconds_per_pair", 0.1, ["sinkhorn"]),
    report.Target("deep_align_activations", "seconds_per_pair", 0.01, ["sinkhorn"]),
    report.Target("deep_align_activations", "seconds_per_pair", 1.0, ["weight_matching"]),
]


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__)


def fit(data: zoo.Dataset, shape: tuple[int, ...]) -> zoo.Dataset:
    """Pictures of another data set in this shape: averaged down, padded or cut around the middle, channels repeated."""

    def one(part):
        pictures = part.inputs
        for axis in (1, 2):
            missing = shape[axis - 1] - pictures.shape[axis]
            if missing > 0:
                width = [(missing // 2, missing - missing // 2) if k == axis else (0, 0) for k in range(4)]
                pictures = np.pad(pictures, width, mode="edge")
            start = max(-missing, 0) // 2
            pictures = np.take(pictures, range(start, start + shape[axis - 1]), axis)
        if pictures.shape[3] != shape[2]:
            pictures = np.repeat(pictures.mean(3, keepdims=True), shape[2], 3)
        return Data(np.ascontiguousarray(pictures), part.labels)

    # a half-sized picture with an edge keeps more of a digit than its middle alone
    smaller = min(data.train.inputs.shape[1:3])
    data = study.shrink(data, smaller // max(1, round(smaller / shape[0])))
    return data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))


def with_activations(
    network: Network, a: Any, b: Any, *, data: Data, aligner: Aligner, trust: float = 1.0, key: Any = None
) -> Alignment:
    """The aligner in a new domain, of which it sees images without labels.

    Correlations of activations on the images are added, with weight `trust`, to its scores, both at unit spread;
    descent, if it has any, takes images of these data in place of those that it learned. Everything obeys the laws of
    the aligner (equivariance and swap), and so does what comes out.
    """
    model, variables = aligner.model, aligner.variables
    count = len(variables["params"].get("inputs", ()))
    there = {**variables, "params": {**variables["params"], "inputs": data.inputs[:count]}}

    def spread(scores):
        centred = scores - scores.mean((-2, -1), keepdims=True)
        return centred / (centred.std((-2, -1), keepdims=True) + 1e-6)

    x, y = (model.apply(there, v, method="encode") for v in (a, b))
    predicted = model.apply(there, a, x, b, y, method="update")
    seen: Any = activation_matching_correlation(network, a, b, data=data).scores
    start = {g: spread(predicted[g]) + trust * spread(seen[g]) for g in predicted}
    return Alignment(*model.apply(there, a, b, start, method="descend"))


WITH_ACTIVATIONS = Method(
    "deep_align_activations", with_activations, f"{deep_align.title} with activations", "#a33b00", deep_align.asks
)


def main(config: Config) -> list[dict[str, Any]]:
    """Run the experiment; returns what each results.json holds."""
    options, home = study.open_home(config, config.home)
    shape = home.data.train.inputs.shape[1:]
    by_seed = []
    for aligner in home.aligners:
        predict, adapted = (one.using(aligner=aligner) for one in (deep_align, WITH_ACTIVATIONS))
        adapted = adapted.using(trust=config.trust)
        own = [adapted, chain(adapted, study.refinement(config))]
        by_seed.append([*study.learned(config, predict, longest=aligner is home.aligners[0]), *own])
    found = []
    for other in config.others:
        experiment = f"ood-{config.home}-{other}"
        folder, settings = study.open_folder(config, experiment)

        # ---- networks of the new domain ------------------------------------------------------------------------------
        data = fit(zoo.load(other, data_dir=config.data_dir), shape)
        if data.classes != home.data.classes:
            raise zoo.DataError(f"{other} must have the {home.data.classes} classes of the home, has {data.classes}")
        train, test = study.to_device((data.train, data.test))
        nets = study.make_test_zoo(options, home.network, data)

        # ---- every method on them ------------------------------------------------------------------------------------
        measured = study.judge(config, nets, study.baselines(config), by_seed, test, train)
        found.append(
            study.write_report(
                folder, experiment, settings, study.networks_in(nets), measured, home.aligners, targets=TARGETS
            )
        )
    return found


if __name__ == "__main__":
    study.run(main, read_config)
