"""Aligners: trained, or those of another run."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dwalign import deepalign, report, zoo
from dwalign.evaluation import curve
from dwalign.matching import (
    activation_matching,
)
from dwalign.networks import with_batch_statistics
from dwalign.symmetry import permute
from study.methods import optimisers, renewal, then
from study.options import C, Options
from study.tasks import CLASSIFICATION, Data, Task, shrink


def aligner_shape(options: Options) -> deepalign.AlignerConfig:
    """The aligner that these options ask for."""
    return deepalign.AlignerConfig(
        options.encoder,
        options.channels,
        options.depth,
        options.features,
        options.updates,
        options.descent,
        options.outputs,
        options.probes,
        options.shared,
    )


def train_aligners(
    options: Options,
    nets: zoo.Zoo,
    data: Data,
    few: Data,
    held_out: Data,
    folder: Path,
    task: Task = CLASSIFICATION,
    *,
    images: int = 256,
    model: deepalign.DeepAlign | None = None,
) -> list[deepalign.Trained]:
    """One aligner a seed.

    Args:
      data: the training set; with `task.views` that of each group of networks, leaves `[groups, m, ...]`.
      few: training data for probes, targets and batch statistics.
      held_out: on which validation pairs are judged; with `task.views` that of each group of validation networks.
      images: drawn in each step for the mode-connectivity loss.
      model: what is trained, in place of the one that the options describe.
    """
    network, spec = nets.network, nets.network.spec
    inputs = data[0] if task.views is None else few[0]
    shape = aligner_shape(options)
    optimisation = deepalign.Optimisation(
        options.steps,
        options.batch_size,
        options.learning_rate,
        images=images,
        midpoint=options.midpoint,
        refine=options.through,
        hard=options.hard,
    )
    weights = deepalign.LossWeights(
        options.supervised, options.alignment, options.mode_connectivity, options.distillation
    )
    model = model or deepalign.make_model(network, shape, inputs)
    targets = None
    if options.target_pairs and task.views is None:
        correlate = partial(activation_matching, spec, capture=network.capture, batch=few, correlation=True)
        refined = partial(optimisers(options, network, few, few, task)[1], steps=options.target_steps)
        targets = deepalign.find_targets(
            then(correlate, refined), nets.train, jax.random.key(1), pairs=options.target_pairs
        )
    learner = model if options.unrolled is None else model.clone(descent=options.unrolled)
    step = deepalign.make_step(
        learner,
        with_batch_statistics(network),
        nets.train,
        zoo.Batch(*data),
        weights=weights,
        optimisation=optimisation,
        targets=targets,
        augmentation=task.augmentation,
        loss=task.loss,
        views=task.views,
    )
    first, second = zoo.held_out_pairs(options.validation_networks, views=task.views)
    pairs = zoo.take(nets.validation, first), zoo.take(nets.validation, second)
    on_path = dict(points=3, loss=task.loss, hits=task.hits, prepare=renewal(network, few), spec=spec)
    own = () if task.views is None else (zoo.take(held_out, first // task.views),)

    @jax.jit
    def validate(variables):
        aligner = deepalign.Aligner(model, variables)

        def one(pair):
            a, b, *on = pair
            moved = permute(spec, b, deepalign.deep_align(spec, a, b, aligner=aligner).perms)
            return curve(network.apply, a, moved, *(on or (held_out,)), **on_path).barrier

        return jax.lax.map(one, (*pairs, *own)).mean()

    aligners = []
    for seed in range(options.seeds):
        trained = deepalign.train_aligner(
            model,
            step,
            deepalign.init_state(model, optimisation, zoo.take(nets.train, 0), seed),
            steps=options.steps,
            validate=lambda aligner: validate(aligner.variables),
            validate_every=options.validate_every,
            folder=folder / f"seed-{seed}",
            info=deepalign.describe(network, shape, inputs),
            resume=options.resume,
        )
        print(f"aligner {seed}: best at step {trained.best_step}")
        aligners.append(trained)
    return aligners


class Home(NamedTuple):
    """A finished run whose aligners are used elsewhere.

    Attributes:
      network: config of the networks its aligners are for.
      data: the data set these were trained on.
      aligners: one a seed.
    """

    network: dict[str, Any]
    data: zoo.Dataset
    aligners: list[deepalign.Aligner]


def open_home(options: C, name: str) -> tuple[C, Home]:
    """The run OUT/`name`, and `options` with the recipe of its zoo.

    Raises:
      RunError: the run is missing or did not finish as many aligners as `options.seeds`.
    """
    folder = Path(options.out) / name
    best = [folder / f"seed-{seed}" / "checkpoints" / "best" for seed in range(options.seeds)]
    if missing := [str(file) for file in (folder / "config.json", *best) if not file.exists()]:
        raise report.RunError(f"{folder} must be a finished run of {options.seeds} aligners, {missing[0]} is missing")
    settings = json.loads((folder / "config.json").read_text())
    recipe = ("epochs", "zoo_batch_size", "zoo_learning_rate", "zoo_chunk")
    options = dataclasses.replace(options, **{key: settings[key] for key in recipe})
    data = shrink(zoo.load(settings["dataset"], data_dir=options.data_dir), settings["side"])
    network = deepalign.Checkpoints(best[0]).info()["network"]
    return options, Home(network, data, [deepalign.load_aligner(file) for file in best])
