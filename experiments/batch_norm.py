"""Do batch statistics sway a matching? Networks with batch normalisation, matched by weights.

    python experiments/batch_norm.py                  ten minutes on 2 CPU cores

Four pairs each of a VGG, a residual network and a DenseNet on digits. Weight matching on the spec as it is inferred,
where running statistics move with their units and have no say; on the learned weights alone, as if there were no
statistics; and with the statistics as if they were weights, which it used to be. Accuracies half way, with statistics
computed anew on training images (Jordan et al. 2023, REPAIR), as for every figure of networks with batch normalisation,
and with those that averaging leaves.
Writes runs/batch_norm/: config.json, results.json, series.png.
"""

import dataclasses
import json
from functools import partial
from typing import Any

import jax
import study
import tyro

from dwalign import report, zoo
from dwalign.evaluation import benchmark
from dwalign.matching import naive, weight_matching
from dwalign.networks import Network
from dwalign.symmetry import PermutationSpec

DIGITS: dict[str, Any] = dict(shape=[8, 8, 1], outputs=10, norm="batch")
NETWORKS: dict[str, dict[str, Any]] = {
    "VGG": DIGITS | dict(kind="vgg", stages=[[16, 16], [32, 32]], widths=[32]),
    "ResNet": DIGITS | dict(kind="resnet", width=16, blocks=[1, 1]),
    "DenseNet": DIGITS | dict(kind="densenet", stem=16, growth=8, layers=[2, 2]),
}


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Match networks with batch normalisation."""

    train_networks: int = 0
    validation_networks: int = 0
    test_pairs: int = 4
    zoo_chunk: int = 2
    epochs: int = 20
    chunk: int = 1
    refine_images: int = 512
    """training images on which statistics are computed anew."""


def matchings(network: Network) -> dict[str, study.Method]:
    """Weight matching with statistics in three roles, and no matching."""
    spec = network.spec
    weights = PermutationSpec({"params": spec.axes["params"]}, spec.sizes, batch=spec.batch, fixed=spec.fixed)
    swayed = PermutationSpec(spec.axes, spec.sizes, batch=spec.batch, fixed=spec.fixed, statistics=())
    alone = lambda a, b, *, key: weight_matching(weights, {"params": a["params"]}, {"params": b["params"]}, key=key)
    return {
        "none": partial(naive, spec),
        "weight matching": partial(weight_matching, spec),
        "on weights alone": alone,
        "statistics vote": partial(weight_matching, swayed),
    }


def accuracies(config: Config, described: dict[str, Any], data: zoo.Dataset) -> dict[str, dict[str, Any]]:
    """Panel to matching to the accuracy half way between the networks of each pair."""
    nets = study.make_test_zoo(config, described, data)
    train, test = study.to_device(data.train), study.to_device(data.test)
    first, second = zoo.held_out_pairs(zoo.size(nets.test))
    network, few = nets.network, tuple(leaf[: config.refine_images] for leaf in train)
    prepared = {"statistics renewed": study.renewal(network, few), "as averaged": lambda params: params}
    found = {}
    for title, prepare in prepared.items():
        measured = benchmark(
            network.spec,
            network.apply,
            matchings(network),
            zoo.take(nets.test, first[: config.test_pairs]),
            zoo.take(nets.test, second[: config.test_pairs]),
            test,
            key=jax.random.key(2),
            chunk=config.chunk,
            points=3,
            prepare=prepare,
        )
        found[title] = {name: report.point([one.curve.midpoint_accuracy]) for name, one in measured.items()}
    return found


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "batch_norm")
    data = zoo.load("digits")
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    data = data._replace(**{n: one._replace(inputs=one.inputs.reshape(-1, 8, 8, 1)) for n, one in parts.items()})
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
        "caption": f"batch_norm: accuracy half way, means and 95 % intervals over {config.test_pairs} pairs.",
    }
    report.write_whole(folder / "results.json", json.dumps(results, indent=1) + "\n")
    report.series_figure(results, folder / "series.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
