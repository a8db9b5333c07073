"""Deep-Align for implicit neural representations: barrier against the number of Sinkhorn iterations (Figure 4).

    python experiments/train_inr.py                                       sine waves, two views each
    python experiments/train_inr.py --dataset photo_patches               pictures, five views each; or mnist, cifar10
    python experiments/train_inr.py --preset smoke                        a check in about a minute

Every network represents a signal of its own, several (its views) the same one; pairs are views of one signal, and loss
and barrier are mean squared errors on that signal. "Accuracy" is the share of points that are met to 0.1.
Writes runs/inr-<dataset>/: config.json, results.json, figures, metrics.jsonl and checkpoints of each aligner seed.
"""

import dataclasses
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.matching import sinkhorn_rebasin, weight_matching
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
    points: int = 256
    """of a sine wave."""
    widths: tuple[int, ...] = (64, 64, 64)
    omega: float = 8.0
    """frequency of the sine layers."""
    fix_signs: bool = True
    """bring all networks to non-negative biases first, which leaves their functions as they are."""
    budgets: tuple[int, ...] = (10, 20, 50, 100, 200, 500)
    """numbers of Sinkhorn iterations, besides the full one."""

    train_networks: int = 600
    zoo_chunk: int = 100
    epochs: int = 400
    zoo_batch_size: int = 128
    zoo_learning_rate: float = 1e-3
    steps: int = 1000
    refine_images: int = 256


PICTURES: dict[str, Any] = dict(views=5, validation_networks=40)
SMOKE = study.SMOKE | dict(
    widths=(8, 8), points=64, zoo_batch_size=64, budgets=(5, 10), target_pairs=0, batch_size=4, side=8
)
PAPER: dict[str, Any] = dict(train_networks=8000, validation_networks=200, test_pairs=200, steps=25000, batch_size=32)
STARTS = ("sinkhorn", "weight_matching+sinkhorn", "deep_align+sinkhorn")


def read_config(args: list[str]) -> Config:
    """Command line to config: the data set and the preset give the defaults, single flags override them."""
    presets: dict[str, Any] = {"smoke": SMOKE, "default": {}, "paper": PAPER}

    def defaults(first):
        chosen = {} if first.dataset == "sines" else PICTURES | (dict(side=14) if first.dataset == "mnist" else {})
        whole = dict(train_networks=40, validation_networks=10) if first.preset == "smoke" else {}
        return chosen | presets[first.preset] | (whole if chosen else {})

    return study.read_options(Config, args, defaults, __doc__)


def make_signals(config: Config, count: int) -> zoo.Batch:
    """Coordinates `[count, m, d]` in [-1, 1] and values `[count, m, outputs]`."""
    if config.dataset == "sines":
        line = np.linspace(-1, 1, config.points, dtype=np.float32)
        frequencies = np.random.default_rng(0).uniform(0.5, 10, (count, 1)).astype(np.float32)
        values = np.sin(frequencies * np.pi * line)[..., None]
        return zoo.Batch(np.broadcast_to(line[:, None], (count, config.points, 1)).copy(), values)
    pictures = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side).train.inputs
    if len(pictures) < count:
        raise zoo.DataError(f"{config.dataset} must hold {count} pictures, found {len(pictures)}; take fewer networks")
    height, width, outputs = pictures.shape[1:]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width)), indexing="ij"), -1)
    return zoo.Batch(
        np.broadcast_to(grid.reshape(-1, 2), (count, height * width, 2)).copy(),
        pictures[:count].reshape(count, -1, outputs),
    )


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"inr-{config.dataset}"
    folder, settings = study.open_folder(config, experiment)
    task = study.Task(zoo.mean_squared_error, zoo.within, config.views, zoo.Augmentation(scaling=0.0))

    # ---- signals and zoo -----------------------------------------------------------------------------------------
    counts = [n // config.views for n in study.zoo_size(config, task)]
    signals = make_signals(config, sum(counts))
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
        config, nets, study.to_device(train), few, folder, task, study.to_device(validation), images=config.points
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
    report.iterations_figure(results, folder / "barrier_iterations.png", STARTS, longest=config.sinkhorn_iterations)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
