"""Many networks into one: how good is their mean, by how they are aligned, and what does REPAIR win back?

    python experiments/merge_many.py                        digits: MLPs and VGGs without normalisation; 15 minutes
    python experiments/merge_many.py --data-dir DIR --kinds mnist_mlp ...
    python experiments/merge_many.py --preset smoke         a few small networks

Sets of networks are aligned to one universe in every way of `dwalign.merge_many` and averaged; beside them the mean
without alignment, the ensemble of the same networks (so many times the cost), and one network alone. Then, of pairs,
what REPAIR wins back of the accuracy that alignment leaves lost, by how it is done. Full test set.
Writes runs/merge_many/: config.json, results.json, merge_many.png.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro

from dwalign import merging, report, zoo
from dwalign.bounds import Count, Several, settings
from dwalign.deepalign import deep_align, load_aligner
from dwalign.networks import build
from dwalign.program import CLASSIFICATION, Data, Network
from dwalign.symmetry import permute, take_networks

KINDS: dict[str, tuple[str, dict[str, Any], zoo.Recipe]] = {
    "mlp": ("digits", dict(kind="mlp", inputs=64, widths=[32, 32, 32], outputs=10), zoo.Recipe()),
    "mnist_mlp": (
        "mnist",
        dict(kind="mlp", inputs=784, widths=[128, 128, 128], outputs=10),
        zoo.Recipe(epochs=8, learning_rate=1e-3),
    ),
    "vgg": (
        "digits",
        dict(kind="vgg", shape=[8, 8, 1], stages=[[16, 16], [32, 32]], widths=[32], outputs=10),
        zoo.Recipe(epochs=20),
    ),
}
CORRELATIONS, SHIPPED = "activation_matching_correlation", "any"
# a way of merge_many and the method that it asks
WAYS = {
    "mean without alignment": ("first", "naive"),
    "each to the first, weights": ("first", "weight_matching"),
    "each to the first, activations": ("first", CORRELATIONS),
    "running mean, activations": ("running_mean", CORRELATIONS),
    "MergeMany, weights": ("merge_many", "weight_matching"),
    "Frank-Wolfe from the identity": ("universe", "naive"),
    "Frank-Wolfe from activations": ("universe", CORRELATIONS),
    "Frank-Wolfe from activations + refinement": ("refinement", CORRELATIONS),
    "Frank-Wolfe on activations": ("features", CORRELATIONS),
    "Frank-Wolfe on features of the shipped aligner": ("features", SHIPPED),
}
REPAIRED = ("each to the first, weights", "each to the first, activations", "Frank-Wolfe from activations + refinement")

SHOWN = (
    *("ensemble", "mean without alignment", "each to the first, activations", "MergeMany, weights"),
    "Frank-Wolfe from activations + refinement",
    "Frank-Wolfe on features of the shipped aligner",
)


@settings
class Config(study.Options):
    """Merge many networks."""

    kinds: tuple[str, ...] = ("mlp", "vgg")
    """of KINDS; mnist_mlp needs prepared data."""
    counts: tuple[Several, ...] = (2, 4, 8, 16)
    """networks in one."""
    pool: Several = 32
    """networks of each kind, of which disjoint sets are taken."""
    sets: Count = 4
    """at most so many of each size."""
    refine_images: Count | None = 512
    """training images that alignment and REPAIR see."""
    repair_images: tuple[Count, ...] = (32, 512)
    """numbers of images that REPAIR is tried with on pairs."""


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    small: dict[str, Any] = dict(kinds=("mlp",), counts=(2, 3), pool=6, sets=2, refine_images=64, repair_images=(16,))
    return tyro.cli(
        Config, args=args, default=Config(**(small if first.preset == "smoke" else {})), description=__doc__
    )


def measure(config: Config, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Method to number of networks to what was measured, and what REPAIR wins back of pairs."""
    name, described, recipe = KINDS[kind]
    data = zoo.load(name, data_dir=config.data_dir)
    network: Network = build(described)
    size = config.pool
    epochs = 2 if config.preset == "smoke" else recipe.epochs
    options = study.change(
        config,
        {
            "recipe": dataclasses.replace(recipe, epochs=epochs),
            "networks": study.Networks(train=0, validation=0, pairs=size // 2, chunk=size if "mlp" in kind else 4),
        },
    )
    nets = jax.tree.map(np.asarray, study.make_test_zoo(options, network, data).test)
    few = Data(*(part[: config.refine_images] for part in data.train))
    test = study.to_device(data.test)

    @jax.jit
    def answers(params):
        return network.apply(params, test.inputs)

    def judged(outputs) -> dict[str, float]:
        hits = CLASSIFICATION.hits(outputs, test.labels)
        return {"accuracy": float(hits.mean()), "loss": float(CLASSIFICATION.loss(outputs, test.labels))}

    def repaired(params, moved, images, **options) -> float:
        seen = Data(few.inputs[:images])
        return judged(answers(merging.repair(network, params, moved, seen, **options)))["accuracy"]

    shipped = deep_align.using(aligner=load_aligner(SHIPPED, network=network))
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    shares: dict[str, dict[str, list[dict[str, float]]]] = {}
    for count in config.counts:
        for part in range(min(config.sets, size // count)):
            members = [take_networks(nets, part * count + k) for k in range(count)]
            each = [answers(params) for params in members]
            alone = {key: float(np.mean([judged(one)[key] for one in each])) for key in ("accuracy", "loss")}
            ensemble = judged(jnp.log(sum(jax.nn.softmax(one) for one in each) / count))
            found = {"one network alone": alone, "ensemble": ensemble}
            for way, (how, method) in WAYS.items():
                merged = merging.merge_many(
                    network,
                    members,
                    shipped if method == SHIPPED else method,
                    how=how,
                    data=few,
                    key=jax.random.fold_in(jax.random.key(3), part),
                )
                moved = [permute(network.spec, *one) for one in zip(members, merged.perms, strict=True)]
                found[way] = judged(answers(merged.params)) | {
                    "repaired": repaired(merged.params, moved, config.refine_images)
                }
                if count == 2 and way in REPAIRED:
                    variants = {"not": found[way]["accuracy"]}
                    variants |= {f"REPAIR, {n} images": repaired(merged.params, moved, n) for n in config.repair_images}
                    all_of = (merged.params, moved, config.refine_images)
                    variants["REPAIR, hidden layers alone"] = repaired(*all_of, outputs=False)
                    variants["RESCALE"] = repaired(*all_of, shift=False)
                    lost = alone["accuracy"] - variants["not"]
                    for variant, value in variants.items():
                        one = {"accuracy": value, "lost": lost, "won": value - variants["not"]}
                        shares.setdefault(way, {}).setdefault(variant, []).append(one)
            for way, values in found.items():
                rows.setdefault(way, {}).setdefault(str(count), []).append(values)
        print(f"{kind}: {count} networks")
    summary = {
        way: {
            count: {key: report.point([[one[key] for one in values]]) for key in values[0]}
            for count, values in counts.items()
        }
        for way, counts in rows.items()
    }
    return summary, {way: {variant: won_back(v) for variant, v in found.items()} for way, found in shares.items()}


def won_back(values: list[dict[str, float]]) -> dict[str, Any]:
    """Accuracy, and the share of what was lost over all pairs that is there again."""
    out = {"accuracy": report.point([[one["accuracy"] for one in values]])}
    if any(one["won"] for one in values):
        # of each pair's loss, by how much was lost: a pair that lost nothing has no share
        scale = np.mean([one["lost"] for one in values])
        out["won_back"] = report.point([[one["won"] / scale for one in values]])
    return out


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "merge_many")
    results: dict[str, Any] = {
        "experiment": "merge_many",
        "config": settings,
        "environment": report.environment(),
        "networks": {},
        "repair": {},
    }
    for kind in config.kinds:
        results["networks"][kind], results["repair"][kind] = measure(config, kind)
        # what is written holds these, should the rest be interrupted
        results["config"] = settings | {"kinds": list(results["networks"])}
        report.write_json(folder / "results.json", results)
    report.series_figure(report.merging_series(results, SHOWN), folder / "merge_many.png")
    print(report.merging_table(results), report.repair_table(results), sep="\n\n")
    return results


if __name__ == "__main__":
    study.run(main, read_config)
