"""Deep-Align for implicit neural representations: barrier against the number of Sinkhorn iterations (Figure 4).

    python experiments/train_inr.py                                       sine waves, two views each
    python experiments/train_inr.py --dataset photo_patches               pictures, five views each; or mnist, cifar10
    python experiments/train_inr.py --preset smoke                        a check in about a minute

Every network represents a signal of its own, several (its views) the same one; pairs are views of one signal, and loss
and barrier are mean squared errors on that signal. "Accuracy" is the share of points that are met to 0.1.
Writes runs/inr-<dataset>/: config.json, results.json, figures, metrics.jsonl and checkpoints of each aligner seed;
maps.json and maps.png, where the test networks of some signals lie to one another.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.evaluation import aligned_distances
from dwalign.matching import naive, sinkhorn_rebasin, weight_matching
from dwalign.networks import fix_signs


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Train and judge aligners for SIRENs."""

    dataset: Literal["sines", "photo_patches", "mnist", "cifar10"] = "sines"
    """sin(a x) on [-pi, pi] with a ~ U(0.5, 10), or the pictures of a data set."""
    views: int = 2
    """networks for each signal, from different seeds."""
    side: int = 16
    """pictures larger than this are averaged down to it, by a whole factor."""
    samples: int = 256
    """of a sine wave."""
    widths: tuple[int, ...] = (64, 64, 64)
    omega: float = 8.0
    """frequency of the sine layers."""
    fix_signs: bool = True
    """bring all networks to non-negative biases first, which leaves their functions as they are."""
    budgets: tuple[int, ...] = (10, 20, 50, 100, 200, 500)
    """numbers of Sinkhorn iterations, besides the full one."""
    mapped: int = 8
    """signals whose test networks are drawn as a map."""

    train_networks: int = 600
    zoo_chunk: int = 100
    epochs: int = 400
    zoo_batch_size: int = 128
    zoo_learning_rate: float = 1e-3
    steps: int = 300
    validate_every: int = 50
    probes: int = 64
    descent: int = 5
    alignment: float = 0.0
    outputs: Literal["logits", "values"] = "values"
    refine_images: int = 256


PICTURES: dict[str, Any] = dict(views=5, validation_networks=40, probes=128)
SMOKE = study.SMOKE | dict(
    validation_networks=10,
    target_pairs=0,
    descent=1,
    batch_size=4,
    zoo_batch_size=64,
    widths=(8, 8),
    samples=64,
    side=8,
    budgets=(5, 10),
    mapped=2,
)
PAPER = study.PAPER | dict(batch_size=32)
STARTS = ("sinkhorn", "weight_matching+sinkhorn", "deep_align+sinkhorn")


def read_config(args: list[str]) -> Config:
    """Command line to config."""

    def own(first):
        return {} if first.dataset == "sines" else PICTURES | (dict(side=14) if first.dataset == "mnist" else {})

    return study.read_options(Config, args, __doc__, own=own, smoke=SMOKE, paper=PAPER)


def make_signals(config: Config, learned: int, test: int) -> zoo.Batch:
    """Coordinates `[signals, m, d]` in [-1, 1] and values `[signals, m, outputs]`; the last `test` are for testing.

    Pictures for testing come from the test split, so that nothing of them is seen in training.
    """
    if config.dataset == "sines":
        line = np.linspace(-1, 1, config.samples, dtype=np.float32)
        frequencies = np.random.default_rng(0).uniform(0.5, 10, (learned + test, 1)).astype(np.float32)
        values = np.sin(frequencies * np.pi * line)[..., None]
        return zoo.Batch(np.broadcast_to(line[:, None], (learned + test, config.samples, 1)).copy(), values)
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    for split, wanted in (("train", learned), ("test", test)):
        if (count := len(getattr(data, split).inputs)) < wanted:
            raise zoo.DataError(
                f"{config.dataset} must hold {wanted} pictures in its {split} split, found {count}; take fewer networks"
            )
    pictures = np.concatenate([data.train.inputs[:learned], data.test.inputs[:test]])
    height, width, outputs = pictures.shape[1:]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width)), indexing="ij"), -1)
    return zoo.Batch(
        np.broadcast_to(grid.reshape(-1, 2), (len(pictures), height * width, 2)).copy(),
        pictures.reshape(len(pictures), -1, outputs),
    )


def find_each_other(config: Config, nets: zoo.Zoo, folder: Path, methods: Mapping[str, study.Method]) -> None:
    """Do the networks of one signal find each other? Maps of test networks after each method."""
    count = config.mapped * config.views
    networks, labels = zoo.take(nets.test, slice(count)), np.repeat(np.arange(config.mapped), config.views)
    maps = report.make_maps(
        {
            name: aligned_distances(nets.network.spec, networks, method, key=jax.random.key(0))
            for name, method in methods.items()
        },
        labels,
    )
    report.write_whole(folder / "maps.json", json.dumps(maps) + "\n")
    report.maps_figure(maps, folder / "maps.png")
    print(report.maps_table(maps))


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"inr-{config.dataset}"
    folder, settings = study.open_folder(config, experiment)
    task = study.Task(zoo.mean_squared_error, zoo.within, config.views, zoo.Augmentation(scaling=0.0))

    # ---- signals and zoo -----------------------------------------------------------------------------------------
    counts = [n // config.views for n in study.zoo_size(config, task)]
    signals = make_signals(config, counts[0] + counts[1], counts[2])
    part = lambda low, count: zoo.Batch(*(leaf[low : low + count] for leaf in signals))
    train, validation, test = part(0, counts[0]), part(counts[0], counts[1]), part(sum(counts[:2]), counts[2])
    shape = {"inputs": signals.inputs.shape[-1], "outputs": signals.labels.shape[-1]}
    nets = study.make_zoo(
        config,
        {"kind": "siren", **shape, "widths": list(config.widths), "omega": config.omega},
        zoo.Dataset(config.dataset, signals, validation, test, shape["outputs"]),
        task,
    )
    network = nets.network
    if config.fix_signs:
        same = jax.jit(jax.vmap(fix_signs))
        nets = nets._replace(train=same(nets.train), validation=same(nets.validation), test=same(nets.test))

    # ---- aligners, one a seed ------------------------------------------------------------------------------------
    order = np.random.default_rng(0).permutation(signals.inputs.shape[1])
    few = (jnp.asarray(train.inputs[0][order]), jnp.asarray(train.labels[0][order]))
    aligners = study.train_aligners(
        config, nets, study.to_device(train), few, study.to_device(validation), folder, task, images=config.samples
    )

    # ---- every method on held-out pairs, and Sinkhorn from three starts ------------------------------------------
    def rebasin(data, iterations, start=None):
        on = dict(apply=network.apply, batch=data, loss=task.loss, iterations=iterations)
        last = partial(sinkhorn_rebasin, network.spec, **on)
        return last if start is None else study.then(start, last)

    def fixed(data):
        start = partial(weight_matching, network.spec)
        budgets = {f"sinkhorn@{k}": rebasin(data, k) for k in (0, *config.budgets)}
        budgets |= {f"weight_matching+sinkhorn@{k}": rebasin(data, k, start) for k in config.budgets}
        return study.baselines(config, network, data, data, task) | budgets

    def from_aligner(data, trained):
        start = partial(deepalign.deep_align, network.spec, aligner=trained.aligner)
        budgets = {f"deep_align+sinkhorn@{k}": rebasin(data, k, start) for k in config.budgets}
        return study.learned(config, network, trained.aligner, data, data, task) | budgets

    measured = study.judge(
        config,
        nets,
        few,
        study.to_device(test),
        study.on_own_data(fixed, few),
        [study.on_own_data(partial(from_aligner, trained=trained), few) for trained in aligners],
        task,
    )
    results = study.write_report(
        folder, experiment, settings, study.networks_in(nets), measured, aligners, study.TARGETS
    )
    first = partial(deepalign.deep_align, network.spec, aligner=aligners[0].aligner)
    by_weights = partial(weight_matching, network.spec)
    if config.mapped:
        all_maps = {"naive": partial(naive, network.spec), "weight_matching": by_weights, "deep_align": first}
        find_each_other(config, nets, folder, all_maps)
    report.iterations_figure(results, folder / "barrier_iterations.png", STARTS, longest=config.sinkhorn_iterations)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
