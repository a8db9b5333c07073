"""Aligners: trained, or those of another run."""

from pathlib import Path
from typing import NamedTuple

import jax

from dwalign import deepalign, report, zoo
from dwalign.evaluation import mean_barrier
from dwalign.matching import activation_matching_correlation, chain
from dwalign.networks import build
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import take_networks
from study.methods import refinement
from study.options import C, Options, change
from study.zoos import shrink


def train_aligners(
    options: Options,
    nets: zoo.Zoo,
    data: Data,
    few: Data,
    held_out: Data,
    folder: Path,
    task: Task = CLASSIFICATION,
    *,
    views: int | None = None,
    model: deepalign.DeepAlign | None = None,
) -> list[deepalign.Trained]:
    """One aligner a seed.

    Args:
      data: the training set; with `views` that of each group of networks, leaves `[groups, m, ...]`.
      few: training data for targets and batch statistics, and for probes where there are `views`.
      held_out: on which validation pairs are judged; with `views` that of each group of validation networks.
      task, views: of the zoo.
      model: what is trained, in place of the one that the options describe.
    """
    network = nets.network
    inputs = data.inputs if views is None else few.inputs
    model = model or deepalign.make_model(network, options.aligner, inputs)
    targets = None
    if options.target_pairs and views is None:
        method = chain(activation_matching_correlation, refinement(options).using(steps=options.target_steps))
        key, count = jax.random.key(1), options.target_pairs
        targets = deepalign.find_targets(network, method, nets.train, key, pairs=count, data=few, task=task)
    step = deepalign.make_step(
        model if options.unrolled is None else model.clone(descent=options.unrolled),
        network,
        nets.train,
        data,
        weights=options.losses,
        optimisation=options.training,
        targets=targets,
        augmentation=options.augmentation,
        task=task,
        views=views,
    )
    first, second = zoo.held_out_pairs(options.networks.validation, views=views)
    pairs = take_networks(nets.validation, first), take_networks(nets.validation, second)
    judged_on = held_out if views is None else take_networks(held_out, first // views)
    barrier = mean_barrier(network, *pairs, judged_on, task=task, renew=few.inputs, per_pair=views is not None)

    aligners = []
    for seed in range(options.seeds):
        trained = deepalign.train_aligner(
            model,
            step,
            deepalign.init_state(model, options.training, take_networks(nets.train, 0), seed),
            steps=options.training.steps,
            validate=lambda aligner: barrier(deepalign.deep_align.using(aligner=aligner)),
            validate_every=options.validate_every,
            folder=folder / f"seed-{seed}",
            info=deepalign.describe(network, options.aligner, inputs),
            resume=options.resume,
        )
        print(f"aligner {seed}: best at step {trained.best_step}")
        aligners.append(trained)
    return aligners


class Home(NamedTuple):
    """A finished run whose aligners are used elsewhere.

    Attributes:
      network: what its aligners are for.
      data: the data set these were trained on.
      aligners: one a seed.
    """

    network: Network
    data: zoo.Dataset
    aligners: list[deepalign.Aligner]


def open_home(options: C, name: str) -> tuple[C, Home]:
    """The run OUT/`name`, and `options` with the recipe of its zoo.

    Raises:
      RunError: the run is missing, did not finish as many aligners as `options.seeds`, or is of an earlier version.
    """
    folder = Path(options.out) / name
    best = [folder / f"seed-{seed}" / "checkpoints" / "best" for seed in range(options.seeds)]
    if missing := [str(file) for file in (folder / "config.json", *best) if not file.exists()]:
        raise report.RunError(f"{folder} must be a finished run of {options.seeds} aligners, {missing[0]} is missing")
    settings = report.read_json(folder / "config.json")
    if not {"recipe", "networks"} <= set(settings):
        raise report.RunError(f"{folder} must be a run of this version, its config.json is not; run it again")
    recipe, chunk = zoo.Recipe(**settings["recipe"]), settings["networks"]["chunk"]
    options = change(options, {"recipe": recipe, "networks.chunk": chunk})
    data = shrink(zoo.load(settings["dataset"], data_dir=options.data_dir), settings["side"])
    network = build(deepalign.Checkpoints(best[0], writable=False).info()["network"])
    return options, Home(network, data, [deepalign.load_aligner(file, network=network) for file in best])
