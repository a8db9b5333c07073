"""Do batch statistics sway a matching? Networks with batch normalisation, matched by weights.

    python experiments/batch_norm.py                  ten minutes on 2 CPU cores

Four pairs each of a VGG, a residual network and a DenseNet on digits. Weight matching on the spec as it is inferred,
where running statistics move with their units and have no say; on the learned weights alone, as if there were no
statistics; and with the statistics as if they were weights, which it used to be. Accuracies half way, with statistics
computed anew on training images (Jordan et al. 2023, REPAIR), as for every figure of networks with batch normalisation,
and with those that averaging leaves.
Writes runs/batch_norm/: config.json, results.json, series.png.
"""

from typing import Any

import jax
import study
import tyro

from dwalign import report, zoo
from dwalign.bounds import Count, settings
from dwalign.evaluation import benchmark
from dwalign.matching import Method, naive, weight_matching
from dwalign.networks import build
from dwalign.symmetry import Alignment, PermutationSpec, count_networks, take_networks

DIGITS: dict[str, Any] = dict(shape=[8, 8, 1], outputs=10, norm="batch")
NETWORKS: dict[str, dict[str, Any]] = {
    "VGG": DIGITS | dict(kind="vgg", stages=[[16, 16], [32, 32]], widths=[32]),
    "ResNet": DIGITS | dict(kind="resnet", width=16, blocks=[1, 1]),
    "DenseNet": DIGITS | dict(kind="densenet", stem=16, growth=8, layers=[2, 2]),
}


@settings
class Config(study.Options):
    """Match networks with batch normalisation."""

    networks: study.Networks = study.Networks(train=0, validation=0, pairs=4, chunk=2)
    recipe: zoo.Recipe = zoo.Recipe(epochs=20)
    chunk: Count = 1
    refine_images: Count | None = 512
    """training images on which statistics are computed anew."""


def on_weights_alone(spec: PermutationSpec, a: Any, b: Any, *, key: jax.Array) -> Alignment:
    """Weight matching as if there were no statistics."""
    weights = PermutationSpec({"params": spec.axes["params"]}, spec.sizes, batch=spec.batch, fixed=spec.fixed)
    return weight_matching(weights, {"params": a["params"]}, {"params": b["params"]}, key=key)


def statistics_vote(spec: PermutationSpec, a: Any, b: Any, *, key: jax.Array) -> Alignment:
    """Weight matching as if statistics were weights."""
    swayed = PermutationSpec(spec.axes, spec.sizes, batch=spec.batch, fixed=spec.fixed, statistics=())
    return weight_matching(swayed, a, b, key=key)


MATCHINGS = {
    "none": naive,
    "weight matching": weight_matching,
    "on weights alone": Method("on_weights_alone", on_weights_alone, "on weights alone", "#56b4e9", "weights"),
    "statistics vote": Method("statistics_vote", statistics_vote, "statistics vote", "#d55e00", "weights"),
}


def accuracies(config: Config, described: dict[str, Any], data: zoo.Dataset) -> dict[str, dict[str, Any]]:
    """Panel to matching to the accuracy half way between the networks of each pair."""
    nets = study.make_test_zoo(config, build(described), data)
    train, test = study.to_device((data.train, data.test))
    first, second = zoo.held_out_pairs(count_networks(nets.test))
    few = train.inputs[: config.refine_images]
    found = {}
    for title, renew in {"statistics renewed": few, "as averaged": None}.items():
        measured = benchmark(
            nets.network,
            list(MATCHINGS.values()),
            take_networks(nets.test, first),
            take_networks(nets.test, second),
            test,
            key=jax.random.key(2),
            chunk=config.chunk,
            points=3,
            renew=renew,
        )
        found[title] = {
            name: report.point([measured[str(method)].curve.midpoint_accuracy]) for name, method in MATCHINGS.items()
        }
    return found


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "batch_norm")
    data = zoo.load("digits")
    found = {name: accuracies(config, described, data) for name, described in NETWORKS.items()}
    titles = list(next(iter(found.values())))
    series = list(next(iter(found.values()))[titles[0]])
    results = {
        "experiment": "batch_norm",
        "config": settings | {"networks": NETWORKS},
        "environment": report.environment(),
        "axis": "network",
        "settings": list(NETWORKS),
        "panels": {
            title: {name: {network: one[title][name] for network, one in found.items()} for name in series}
            for title in titles
        },
        "caption": f"batch_norm: accuracy half way, means and 95 % intervals over {config.networks.pairs} pairs.",
    }
    report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "series.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
