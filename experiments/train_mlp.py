"""Deep-Align for MLP classifiers, end to end: images -> zoo -> aligner -> every method on held-out pairs -> one table.

    python experiments/train_mlp.py                                   digits, about 8 minutes on 2 CPU cores
    python experiments/train_mlp.py --dataset mnist --data-dir DIR    784-128-128-128-10
    python experiments/train_mlp.py --preset smoke                    a check in about a minute

Writes runs/mlp-<dataset>/: config.json, metrics.jsonl and checkpoints of each aligner seed, results.json, figures.
"""

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from dwalign import deepalign, report, zoo
from dwalign.evaluation import Measured, benchmark, curve
from dwalign.matching import (
    activation_matching,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.symmetry import permute


@dataclasses.dataclass(frozen=True)
class Config:
    """Train and judge aligners for MLPs."""

    dataset: Literal["digits", "mnist", "fashion_mnist", "cifar10"] = "digits"
    """digits is inside scikit-learn; the others are read through TFDS."""
    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: Literal["smoke", "default", "paper"] = "default"
    """sets everything below; single values can still be given."""
    out: str = "runs"
    """results go to OUT/mlp-DATASET, zoos are shared in OUT/zoos."""
    resume: bool = False
    """continue an interrupted run."""
    seeds: int = 1
    """number of aligners, each from its own seed."""

    widths: tuple[int, ...] = (32, 32, 32)
    train_networks: int = 900
    validation_networks: int = 40
    test_pairs: int = 50
    zoo_chunk: int = 150
    epochs: int = 40
    zoo_batch_size: int = 64
    zoo_learning_rate: float = 2e-3

    encoder: Literal["dws", "graph", "probe"] = "graph"
    """the default is the best by measurement at the default budget."""
    channels: int | None = None
    """width of the encoder; its own default if not given."""
    depth: int = 4
    features: int = 128
    updates: int = 3
    """unrolled score updates."""
    target_pairs: int = 0
    """training pairs that refinement aligns as targets; 0 trains without them."""
    target_steps: int = 20
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-3
    supervised: float = 1.0
    alignment: float = 1.0
    mode_connectivity: float = 1.0
    distillation: float = 1.0
    validate_every: int = 100

    refine_images: int = 1300
    """training images in each step of refinement (the whole training split of digits)."""
    sinkhorn_iterations: int = 1000
    chunk: int = 10
    """pairs that are aligned at once."""


MNIST = dict(
    widths=(128, 128, 128),
    train_networks=1500,
    zoo_chunk=25,
    epochs=8,
    zoo_learning_rate=1e-3,
    batch_size=8,
    steps=2000,
    refine_images=1024,
    test_pairs=30,
    validate_every=200,
    chunk=5,
)
SMOKE = dict(
    train_networks=40,
    validation_networks=8,
    test_pairs=4,
    zoo_chunk=40,
    epochs=10,
    channels=16,
    depth=2,
    features=32,
    updates=1,
    target_pairs=20,
    target_steps=5,
    steps=20,
    validate_every=10,
    refine_images=256,
    sinkhorn_iterations=20,
    chunk=2,
)
PAPER = dict(
    train_networks=8000,
    validation_networks=100,
    test_pairs=200,
    steps=25000,
)


MATCHING = ("activation_matching", "activation_matching_correlation")
SHOWN = ("naive", "weight_matching", *MATCHING, "sinkhorn", "deep_align", "deep_align+refine")
TARGETS = {
    "digits": [
        report.Target("deep_align", "barrier", 0.8, MATCHING),
        report.Target("deep_align", "barrier", 0.4, ["weight_matching"]),
        report.Target("deep_align+refine", "barrier", 0.6, ["sinkhorn"]),
        report.Target("deep_align+refine", "seconds_per_pair", 0.1, ["sinkhorn"]),
        report.Target("deep_align+refine", "barrier", 1.0, ["activation_matching_correlation+refine"]),
        report.Target("deep_align", "seconds_per_pair", 2.0, ["weight_matching"]),
    ],
    "mnist": [
        report.Target("deep_align", "barrier", 0.5, ["activation_matching"]),
        report.Target("deep_align", "barrier", 0.75, ["activation_matching_correlation"]),
        report.Target("deep_align", "barrier", 0.21, ["activation_matching"]),
        report.Target("deep_align+refine", "barrier", 0.9, ["sinkhorn"]),
        report.Target("deep_align+refine", "seconds_per_pair", 0.1, ["sinkhorn"]),
        report.Target("deep_align", "seconds_per_pair", 2.0, ["weight_matching"]),
    ],
}


def read_config(args: list[str]) -> Config:
    """Command line to config: the preset and the data set give the defaults, single flags override them."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    defaults = {} if first.dataset == "digits" else MNIST
    defaults = defaults | {"smoke": SMOKE, "default": {}, "paper": PAPER}[first.preset]
    base = Config(dataset=first.dataset, preset=first.preset)
    return tyro.cli(Config, args=args, default=dataclasses.replace(base, **defaults), description=__doc__)


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"mlp-{config.dataset}"
    settings = {
        key: value for key, value in dataclasses.asdict(config).items() if key not in ("resume", "data_dir", "out")
    }
    folder = report.open_run(Path(config.out) / experiment, settings, resume=config.resume)

    # ---- data ----------------------------------------------------------------------------------------------------
    data = zoo.load(config.dataset, data_dir=config.data_dir)
    images = jnp.asarray(data.train.inputs)
    labels = jnp.asarray(data.train.labels)
    test = (jnp.asarray(data.test.inputs), jnp.asarray(data.test.labels))
    few = (images[: config.refine_images], labels[: config.refine_images])

    # ---- zoo -----------------------------------------------------------------------------------------------------
    shape = {"inputs": int(np.prod(images.shape[1:])), "widths": list(config.widths), "outputs": data.classes}
    recipe = zoo.Recipe(config.epochs, config.zoo_batch_size, config.zoo_learning_rate)
    sizes = zoo.ZooSize(config.train_networks, config.validation_networks, 2 * config.test_pairs)
    nets = zoo.get_zoo(
        {"kind": "mlp", **shape}, data, recipe, sizes, folder=Path(config.out) / "zoos", chunk=config.zoo_chunk
    )
    print(f"zoo: {sum(sizes)} networks {'read from the cache' if nets.cached else 'trained'}")
    network, spec = nets.network, nets.network.spec

    # ---- methods that need no aligner ----------------------------------------------------------------------------
    on = dict(apply=network.apply)
    match_weights = partial(weight_matching, spec)
    correlate = partial(activation_matching, spec, capture=network.capture, batch=(images, labels), correlation=True)
    rebasin = partial(sinkhorn_rebasin, spec, **on, batch=(images, labels), iterations=config.sinkhorn_iterations)
    refined = partial(refine, spec, **on, batch=few)
    methods = {
        "naive": partial(naive, spec),
        "weight_matching": match_weights,
        "weight_matching@5": partial(match_weights, restarts=5),
        "activation_matching": partial(activation_matching, spec, capture=network.capture, batch=(images, labels)),
        "activation_matching_correlation": correlate,
        "straight_through": partial(straight_through, spec, **on, batch=(images, labels)),
        "sinkhorn": rebasin,
        "weight_matching+sinkhorn": then(match_weights, rebasin),
        "activation_matching_correlation+refine": then(correlate, refined),
        "refine": refined,
    }

    # ---- aligners, one a seed -------------------------------------------------------------------------------------
    aligner_config = deepalign.AlignerConfig(
        config.encoder, config.channels, config.depth, config.features, config.updates
    )
    optimisation = deepalign.Optimisation(config.steps, config.batch_size, config.learning_rate)
    weights = deepalign.LossWeights(config.supervised, config.alignment, config.mode_connectivity, config.distillation)
    model = deepalign.make_model(network, aligner_config, images)
    targets = None
    if config.target_pairs:
        solver = then(partial(correlate, batch=few), partial(refined, steps=config.target_steps))
        targets = deepalign.find_targets(solver, nets.train, jax.random.key(1), pairs=config.target_pairs)
    step = deepalign.make_step(
        model, network.apply, nets.train, data.train, weights=weights, optimisation=optimisation, targets=targets
    )
    first, second = zoo.held_out_pairs(config.validation_networks)
    validation = zoo.take(nets.validation, first), zoo.take(nets.validation, second)

    @jax.jit
    def validate(aligner_variables):
        aligner = deepalign.Aligner(model, aligner_variables)

        def one(pair):
            moved = permute(spec, pair[1], deepalign.deep_align(spec, *pair, aligner=aligner).perms)
            return curve(network.apply, pair[0], moved, few, points=3).barrier

        return jax.lax.map(one, validation).mean()

    aligners = []
    for seed in range(config.seeds):
        trained = deepalign.train_aligner(
            model,
            step,
            deepalign.init_state(model, optimisation, zoo.take(nets.train, 0), seed),
            steps=config.steps,
            validate=lambda aligner: validate(aligner.variables),
            validate_every=config.validate_every,
            folder=folder / f"seed-{seed}",
            info=deepalign.describe(network, aligner_config, images),
            resume=config.resume,
        )
        print(f"aligner {seed}: best at step {trained.best_step}")
        aligners.append(trained)

    # ---- held-out pairs -------------------------------------------------------------------------------------------
    first, second = zoo.held_out_pairs(2 * config.test_pairs)
    pairs = zoo.take(nets.test, first), zoo.take(nets.test, second)
    judge = partial(
        benchmark, spec, network.apply, a=pairs[0], b=pairs[1], test=test, key=jax.random.key(2), chunk=config.chunk
    )
    short = config.sinkhorn_iterations // 10
    measured: dict[str, list[Measured]] = {name: [found] for name, found in judge(methods=methods).items()}
    for trained in aligners:
        predict = partial(deepalign.deep_align, spec, aligner=trained.aligner)
        learned = {
            "deep_align": predict,
            "deep_align+refine@5": then(predict, partial(refined, steps=5)),
            "deep_align+refine": then(predict, refined),
            f"deep_align+sinkhorn@{short}": then(predict, partial(rebasin, iterations=short)),
        }
        if trained is aligners[0]:
            learned["deep_align+sinkhorn"] = then(predict, rebasin)
        for name, found in judge(methods=learned).items():
            measured.setdefault(name, []).append(found)

    # ---- report ---------------------------------------------------------------------------------------------------
    results = report.make_results(
        experiment,
        settings | {"aligner_parameters": sum(leaf.size for leaf in jax.tree.leaves(aligners[0].aligner.variables))},
        {"networks": sum(sizes), "accuracy": float(measured["naive"][0].curve.accuracy[:, 0].mean())},
        measured,
        TARGETS.get(config.dataset, []),
    )
    report.write_results(folder / "results.json", results)
    report.interpolation_figure(results, folder / "interpolation.png", SHOWN)
    report.quality_figure(results, folder / "quality.png")
    report.training_figure([trained.metrics for trained in aligners], folder / "training.png")
    example = jax.tree.map(lambda leaf: leaf[0], measured["deep_align"][0].alignments)
    report.matrix_figure(example.scores, example.perms, folder / "scores.png")
    print(report.text_table(results))
    return results


def then(first: Callable, second: Callable) -> Callable:
    """The method that starts `second` from what `first` found."""

    def method(a, b, *, key):
        keys = jax.random.split(key)
        return second(a, b, key=keys[1], start=first(a, b, key=keys[0]))

    return method


if __name__ == "__main__":
    try:
        main(read_config(sys.argv[1:]))
    except (zoo.DataError, zoo.ZooError, report.RunError, report.ResultsError, deepalign.CheckpointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command with --resume continues")
