"""Deep-Align for implicit neural representations: barrier against the number of Sinkhorn iterations (Figure 4).

    python experiments/train_inr.py                                       sine waves, two views each
    python experiments/train_inr.py --dataset photo_patches               pictures, five views each; or mnist, cifar10
    python experiments/train_inr.py --preset smoke                        a check in about a minute

Every network represents a signal of its own, several (its views) the same one; pairs are views of one signal, and loss
and barrier are mean squared errors on that signal. "Accuracy" is the share of points that are met to 0.1.
Writes runs/inr-<dataset>/: config.json, results.json, figures, metrics.jsonl and checkpoints of each aligner seed;
maps.json and maps.png, where the test networks of some signals lie to one another.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.bounds import Count, Positive, Several, settings
from dwalign.evaluation import aligned_distances
from dwalign.matching import Method, chain, naive, sinkhorn_rebasin, weight_matching
from dwalign.networks import fix_signs, siren
from dwalign.program import REGRESSION, Data, take_examples
from dwalign.symmetry import take_networks


@settings
class Config(study.Options):
    """Train and judge aligners for SIRENs."""

    dataset: Literal["sines", "photo_patches", "mnist", "cifar10"] = "sines"
    """sin(a x) on [-pi, pi] with a ~ U(0.5, 10), or the pictures of a data set."""
    views: Several = 2
    """networks for each signal, from different seeds."""
    side: Count = 16
    """pictures larger than this are averaged down to it, by a whole factor."""
    samples: Count = 256
    """of a sine wave."""
    widths: tuple[Count, ...] = (64, 64, 64)
    omega: Positive = 8.0
    """frequency of the sine layers."""
    fix_signs: bool = True
    """bring all networks to non-negative biases first, which leaves their functions as they are."""
    budgets: tuple[Count, ...] = (10, 20, 50, 100, 200, 500)
    """numbers of Sinkhorn iterations, besides the full one."""
    mapped: Count = 8
    """signals whose test networks are drawn as a map."""

    networks: study.Networks = study.Networks(train=600, chunk=100)
    recipe: zoo.Recipe = zoo.Recipe(epochs=400, batch_size=128, learning_rate=1e-3)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(descent=5, outputs="values", probes=64)
    training: deepalign.Optimisation = deepalign.Optimisation(steps=300)
    losses: deepalign.LossWeights = deepalign.LossWeights(alignment=0.0)
    augmentation: zoo.Augmentation = zoo.Augmentation(scaling=0.0)
    validate_every: Count = 50
    refine_images: Count | None = None


PICTURES: study.Changes = {"views": 5, "networks.validation": 40, "aligner.probes": 128}
SMOKE: study.Changes = {
    **study.SMOKE,
    "networks.validation": 10,
    "target_pairs": 0,
    "aligner.descent": 1,
    "training.batch_size": 4,
    "training.images": 64,
    "recipe.batch_size": 64,
    "refine_images": None,
    "widths": (8, 8),
    "samples": 64,
    "side": 8,
    "budgets": (5, 10),
    "mapped": 2,
}
PAPER: study.Changes = {**study.PAPER, "training.batch_size": 32}
STARTS = ("sinkhorn", "weight_matching+sinkhorn", "deep_align+sinkhorn")


def read_config(args: list[str]) -> Config:
    """Command line to config."""

    def own(first):
        pictures = {} if first.dataset == "sines" else PICTURES
        return {**pictures, **({"side": 14} if first.dataset == "mnist" else {})}

    return study.read_options(Config, args, __doc__, own=own, smoke=SMOKE, paper=PAPER)


def make_signals(config: Config, learned: int, test: int) -> Data:
    """Coordinates `[signals, m, d]` in [-1, 1] and values `[signals, m, outputs]`; the last `test` are for testing.

    Pictures for testing come from the test split, so that nothing of them is seen in training.
    """
    if config.dataset == "sines":
        line = np.linspace(-1, 1, config.samples, dtype=np.float32)
        frequencies = np.random.default_rng(0).uniform(0.5, 10, (learned + test, 1)).astype(np.float32)
        values = np.sin(frequencies * np.pi * line)[..., None]
        return Data(np.broadcast_to(line[:, None], (learned + test, config.samples, 1)).copy(), values)
    data = study.shrink(zoo.load(config.dataset, data_dir=config.data_dir), config.side)
    for split, wanted in (("train", learned), ("test", test)):
        if (count := len(getattr(data, split).inputs)) < wanted:
            raise zoo.DataError(
                f"{config.dataset} must hold {wanted} pictures in its {split} split, found {count}; take fewer networks"
            )
    pictures = np.concatenate([data.train.inputs[:learned], data.test.inputs[:test]])
    height, width, outputs = pictures.shape[1:]
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (height, width)), indexing="ij"), -1)
    return Data(
        np.broadcast_to(grid.reshape(-1, 2), (len(pictures), height * width, 2)).copy(),
        pictures.reshape(len(pictures), -1, outputs),
    )


def find_each_other(config: Config, nets: zoo.Zoo, folder: Path, methods: Sequence[Method]) -> None:
    """Do the networks of one signal find each other? Maps of test networks after each method."""
    count = config.mapped * config.views
    networks, labels = take_networks(nets.test, slice(count)), np.repeat(np.arange(config.mapped), config.views)
    maps = report.make_maps(
        {str(method): aligned_distances(nets.network, networks, method, key=jax.random.key(0)) for method in methods},
        labels,
    )
    report.write_json(folder / "maps.json", maps)
    report.maps_figure(maps, folder / "maps.png")
    print(report.maps_table(maps))


def main(config: Config) -> dict:
    """Run the experiment; returns what results.json holds."""
    experiment = f"inr-{config.dataset}"
    folder, settings = study.open_folder(config, experiment)

    # ---- signals and zoo -----------------------------------------------------------------------------------------
    counts = [n // config.views for n in config.networks.size(config.views)]
    signals = make_signals(config, counts[0] + counts[1], counts[2])
    cuts = np.cumsum([0, *counts])
    parts = [Data(*(leaf[low:high] for leaf in signals)) for low, high in itertools.pairwise(cuts)]
    inputs, outputs = signals.inputs.shape[-1], signals.labels.shape[-1]
    nets = study.make_zoo(
        config,
        siren(inputs, config.widths, outputs, config.omega),
        zoo.Dataset(config.dataset, signals, parts[1], parts[2], outputs),
        REGRESSION,
        views=config.views,
    )
    if config.fix_signs:
        same = jax.jit(jax.vmap(fix_signs))
        nets = nets._replace(train=same(nets.train), validation=same(nets.validation), test=same(nets.test))

    # ---- aligners, one a seed ------------------------------------------------------------------------------------
    train, validation, test = study.to_device(parts)
    order = np.random.default_rng(0).permutation(signals.inputs.shape[1])
    few = take_examples(jax.tree.map(lambda leaf: leaf[0], train), order)
    aligners = study.train_aligners(config, nets, train, few, validation, folder, REGRESSION, views=config.views)
    passes = [deepalign.deep_align.using(aligner=trained.aligner) for trained in aligners]

    # ---- every method on held-out pairs, and Sinkhorn from three starts ------------------------------------------
    budgets = [sinkhorn_rebasin.using(iterations=k) for k in config.budgets]
    after = lambda start: [chain(start, budget) for budget in budgets]
    fixed = [*study.baselines(config), sinkhorn_rebasin.using(iterations=0), *budgets, *after(weight_matching)]
    by_seed = [[*study.learned(config, predict), *after(predict)] for predict in passes]
    measured = study.judge(config, nets, fixed, by_seed, test, task=REGRESSION, views=config.views)
    results = study.write_report(
        folder, experiment, settings, study.networks_in(nets), measured, aligners, study.TARGETS
    )
    if config.mapped:
        find_each_other(config, nets, folder, [naive, weight_matching, *passes[:1]])
    report.iterations_figure(results, folder / "barrier_iterations.png", STARTS, longest=config.sinkhorn_iterations)
    return results


if __name__ == "__main__":
    study.run(main, read_config)
