"""One aligner for MLPs of many widths and depths: trained on some, judged on sizes that it never saw.

    python experiments/train_sizes.py --data-dir DIR          MNIST, an hour on a CPU core
    python experiments/train_sizes.py --dataset digits        minutes
    python experiments/train_sizes.py --preset smoke          a check in a minute
    python experiments/train_sizes.py --data-dir DIR --ship   and put the aligner and its card into the package

Layers of one role share parameters, and the inputs that the aligner looks at are learned: it is applied to weights
alone. Steps take the sizes in turn; validation sizes choose among the checkpoints. Writes runs/sizes-<dataset>/:
config.json, the aligner, results.json and a figure.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.bounds import Amount, Count, Points, settings
from dwalign.deepalign import deep_align, load_aligner
from dwalign.evaluation import Measured, benchmark, mean_barrier
from dwalign.matching import (
    activation_matching,
    activation_matching_correlation,
    anchored_matching,
    naive,
    weight_matching,
)
from dwalign.networks import mlp
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import take_networks

BASELINES = (weight_matching, anchored_matching, activation_matching, activation_matching_correlation)
SEEN = ((64,), (192,), (128, 128), (64, 64, 64), (256, 128), (96, 96, 96, 96), (64, 64, 64, 64, 64))
CHOOSE = ((128,), (96, 96), (128, 64, 32), (80, 80, 80, 80))
UNSEEN = (
    (96,),
    (256,),
    (48, 48),
    (192, 192),
    (128, 128, 128),
    (200, 100, 50),
    (48, 48, 48, 48),
    (96,) * 5,
    (64,) * 6,
)


@settings
class Config(study.Options):
    """Train one aligner for MLPs of many sizes, and judge it on others."""

    dataset: Literal["mnist", "fashion_mnist", "cifar10", "digits", "photo_patches"] = "mnist"
    """digits is inside scikit-learn, photo_patches is cut from pictures there; the others are read through TFDS."""
    side: Count = 32
    """pictures larger than this are averaged down to it, by a whole factor."""
    ship: bool = False
    """write the aligner and its card into the package, under the name of the data set."""
    seen: tuple[str, ...] = tuple("-".join(map(str, size)) for size in SEEN)
    """hidden widths of what it is trained on."""
    choose: tuple[str, ...] = tuple("-".join(map(str, size)) for size in CHOOSE)
    """of what chooses among its checkpoints."""
    unseen: tuple[str, ...] = tuple("-".join(map(str, size)) for size in UNSEEN)
    """of what it is judged on."""
    networks: study.Networks = study.Networks(train=200, validation=40, pairs=20, chunk=25)
    """of each size."""
    recipe: zoo.Recipe = zoo.Recipe(epochs=8, learning_rate=1e-3)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(
        encoder="graph", channels=64, descent=10, probes=256, shared=True
    )
    unrolled: Amount | None = 0
    training: deepalign.Optimisation = deepalign.Optimisation(steps=2100, batch_size=8)
    validate_every: Count = 150
    chunk: Count = 5
    points: Points = 3


SMOKE: study.Changes = {
    "dataset": "digits",
    "seen": ("8", "6-6"),
    "choose": ("8-8",),
    "unseen": ("10-6",),
    "networks.train": 4,
    "networks.validation": 2,
    "networks.pairs": 2,
    "networks.chunk": 4,
    "recipe.epochs": 1,
    "aligner.channels": 4,
    "aligner.probes": 8,
    "aligner.descent": 1,
    "training.steps": 2,
    "training.batch_size": 2,
    "training.images": 8,
    "validate_every": 1,
    "chunk": 2,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


def make_network(data: zoo.Dataset, size: str) -> Network:
    """The MLP of hidden widths such as 200-100-50."""
    return mlp(int(np.prod(data.train.inputs.shape[1:])), tuple(map(int, size.split("-"))), data.classes)


def train(config: Config, data: zoo.Dataset, folder: Path) -> deepalign.Trained:
    """One aligner for all sizes: each step takes the next of them."""
    inputs, few = data.train.inputs, take_examples(data.train, slice(config.refine_images))
    learned = study.change(config, {"networks.validation": 0, "networks.pairs": 0})
    zoos = [study.make_zoo(learned, make_network(data, size), data) for size in config.seen]
    models = [deepalign.make_model(nets.network, config.aligner, inputs) for nets in zoos]
    steps = [
        deepalign.make_step(
            model if config.unrolled is None else model.clone(descent=config.unrolled),
            nets.network,
            nets.train,
            data.train,
            weights=config.losses,
            optimisation=config.training,
            augmentation=config.augmentation,
        )
        for model, nets in zip(models, zoos, strict=True)
    ]

    choosing = study.change(config, {"networks.train": 0, "networks.pairs": 0})
    barriers = []
    for size in config.choose:
        nets = study.make_zoo(choosing, make_network(data, size), data)
        first, second = (take_networks(nets.validation, k) for k in zoo.held_out_pairs(config.networks.validation))
        barriers.append((nets.network, mean_barrier(nets.network, first, second, data.validation, renew=few.inputs)))

    def validate(aligner):
        moved = [(fit(config, data, aligner.variables, network), barrier) for network, barrier in barriers]
        # a mean of logarithms, so that no size outweighs the others
        return float(np.mean([np.log(barrier(deep_align.using(aligner=own)) + 1e-3) for own, barrier in moved]))

    *others, (model, example) = ((m, take_networks(nets.train, 0)) for m, nets in zip(models, zoos, strict=True))
    return deepalign.train_aligner(
        model,
        lambda state: steps[int(state.step) % len(steps)](state),
        deepalign.init_state(model, config.training, example, 0, others=others),
        steps=config.training.steps,
        validate=validate,
        validate_every=config.validate_every,
        folder=folder,
        info=deepalign.describe(zoos[-1].network, config.aligner, inputs),
        resume=config.resume,
    )


def fit(config: Config, data: zoo.Dataset, variables: Any, network: Network) -> deepalign.Aligner:
    """The aligner with these variables for networks of another size."""
    model = deepalign.make_model(network, config.aligner, data.train.inputs)
    return deepalign.fit_aligner(deepalign.Aligner(model, variables), network)


def judge(config: Config, data: zoo.Dataset, variables: Any, size: str) -> dict[str, Measured]:
    """What needs no training, what ships for every network, and this aligner, on networks of one size."""
    network = make_network(data, size)
    nets = study.make_test_zoo(config, network, data)
    few = take_examples(data.train, slice(config.refine_images))
    first, second = (index[: config.networks.pairs] for index in zoo.held_out_pairs(2 * config.networks.pairs))
    aligners = {
        "any": load_aligner("any", network=network),
        "any on inputs": load_aligner("any", network=network, inputs=few.inputs),
        "deep_align": fit(config, data, variables, network),
    }
    return benchmark(
        network,
        [naive, *BASELINES, *(replace(deep_align.using(aligner=one), name=name) for name, one in aligners.items())],
        take_networks(nets.test, first),
        take_networks(nets.test, second),
        data.test,
        key=jax.random.key(2),
        data=few,
        chunk=config.chunk,
        points=config.points,
        renew=few.inputs,
    )


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, f"sizes-{config.dataset}")
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    flat = lambda part: study.to_device(Data(part.inputs.reshape(len(part.inputs), -1), part.labels))
    data = data._replace(train=flat(data.train), validation=flat(data.validation), test=flat(data.test))
    trained = train(config, data, folder / "aligner")
    panels: dict[str, dict[str, dict[str, Any]]] = {"barrier": {}, "seconds a pair": {}}
    for size in config.unseen:
        for method, one in judge(config, data, trained.aligner.variables, size).items():
            values = {"barrier": one.curve.barrier, "seconds a pair": one.seconds}
            for panel, numbers in values.items():
                panels[panel].setdefault(report.display_name(method), {})[size] = report.point([np.ravel(numbers)])
    results = {
        "experiment": f"sizes-{config.dataset}",
        "question": "One aligner for MLPs of many sizes: how does it do on sizes that it never saw?",
        "config": settings,
        "environment": report.environment(),
        "axis": "hidden widths, all unseen",
        "settings": list(config.unseen),
        "panels": panels,
        "logarithmic": True,
        "caption": f"sizes-{config.dataset}: means and 95 % intervals over {config.networks.pairs} held-out pairs of "
        f"networks and one aligner, trained on networks of hidden widths {', '.join(config.seen)}. Deep-Align and any "
        "are given weights alone, any on inputs and activation matching inputs of the data too.",
    }
    report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    if config.ship:
        ship(config, trained.aligner, results)
    return results


def ship(config: Config, aligner: deepalign.Aligner, results: dict[str, Any]) -> None:
    """The aligner and its card, into the package."""
    card = {
        "licence": "MIT",
        "made": f"{config.training.steps} steps on {config.networks.train} networks of each size",
        "trained_on": [f"MLP {size}, {config.dataset}" for size in config.seen],
        "chosen_on": [f"MLP {size}, {config.dataset}" for size in config.choose],
        "barrier": {
            method: {size: found["mean"] for size, found in points.items()}
            for method, points in results["panels"]["barrier"].items()
        },
        "limits": "MLPs with ReLU of one or more hidden layers with a kernel and a bias each, for the pictures of "
        f"{config.dataset}, flat and scaled to [-1, 1]",
    }
    deepalign.write_shipped(config.dataset, deepalign.Shipped(config.aligner, aligner.variables), None, card)


if __name__ == "__main__":
    study.run(main, read_config)
