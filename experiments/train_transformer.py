"""Transformers in one basin? Pairs of vision transformers, and of language models, by every method.

    python experiments/train_transformer.py --data-dir DIR         ViTs on MNIST
    python experiments/train_transformer.py --kind gpt             language models of characters; needs no data on disk
    python experiments/train_transformer.py --preset smoke         a check in a minute

Four networks of each width, from seeds of their own, make six pairs. Methods permute units, or they let any symmetry
act that the program has: gains, shifts and centring of norms are folded into the maps beside them, so that the residual
stream may be rotated, and heads may change their bases. After each method the loss and the accuracy on the straight
line between two networks are measured on the whole test set: the barrier, its share of that of networks which are left
as they are, and the accuracy half way.
Writes runs/transformer-<kind>/: config.json, results.json, series.png.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro

from dwalign import fold_norms, infer_spec, report, zoo
from dwalign.bounds import Count, Points, Several, settings
from dwalign.evaluation import Measured, benchmark
from dwalign.matching import (
    Method,
    activation_matching,
    activation_matching_correlation,
    chain,
    naive,
    refine,
    sinkhorn_rebasin,
    weight_matching,
)
from dwalign.networks import build
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import count_networks, take_networks

PyTree = Any


class Kind(NamedTuple):
    """What is trained, and what methods see of it.

    Attributes:
      described: the network, but for its size.
      heads: of attention, by width; 4 where there is none.
      recipes: by width.
      inputs: examples for training that methods may see.
      examples: those in one step of methods that descend.
    """

    described: Mapping[str, Any]
    heads: Mapping[int, int]
    recipes: Mapping[int, zoo.Recipe]
    inputs: int
    examples: int


def recipe(epochs: int, batch_size: int, learning_rate: float) -> zoo.Recipe:
    """As few epochs as will do."""
    return zoo.Recipe(epochs, batch_size, learning_rate, weight_decay=0.05, warm_up=0.1)


KINDS = {
    "vit": Kind(
        dict(kind="vit", shape=[28, 28, 1], patch=7, outputs=10),
        {256: 8},
        {64: recipe(4, 32, 2e-3), 128: recipe(3, 32, 1.4e-3), 256: recipe(2, 64, 1e-3)},
        inputs=4096,
        examples=128,
    ),
    "gpt": Kind(
        dict(kind="transformer", length=64),
        {},
        {64: recipe(4, 16, 4e-3), 128: recipe(3, 16, 2.5e-3), 256: recipe(2, 16, 1.5e-3)},
        inputs=4096,
        examples=32,
    ),
}


# behind the names of methods that use every symmetry
ALL = ", all kinds"


@settings
class Config:
    """Align transformers."""

    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: Literal["smoke", "default"] = "default"
    kind: Literal["vit", "gpt"] = "vit"
    """pictures or text."""
    widths: tuple[Count, ...] = (64, 128, 256)
    """of the residual stream; MLPs are twice as wide."""
    depth: Count = 4
    """blocks of attention and MLP."""
    norm: Literal["layer", "rms"] = "layer"
    networks: Several = 4
    """of each width, aligned in all pairs."""
    pairs: Count | None = None
    """at most so many of them."""
    epochs: Count | None = None
    """of training, in place of what the recipe says."""
    images: Count | None = None
    """or sequences, that are trained on and judged on; all if not given."""
    steps: Count = 300
    """of methods that descend on labels."""
    points: Points = 11
    """networks on the path that are judged, both ends included; an odd number."""
    skip: tuple[str, ...] = ()
    """methods to leave out where they take too long: `weight_matching+sinkhorn` is that of orders alone, with `, all
    kinds` behind it that in which every symmetry acts."""
    out: str = "runs"


SMOKE: dict[str, Any] = dict(kind="gpt", widths=(16,), depth=1, networks=2, epochs=2, images=200, steps=4, points=5)


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    small = SMOKE if first.preset == "smoke" else {}
    return tyro.cli(Config, args=args, default=Config(**small, preset=first.preset), description=__doc__)


def methods(config: Config) -> list[Method]:
    """What is compared, those that ask for least first."""
    seen = refine.using(examples=KINDS[config.kind].examples)
    listed = [
        naive,
        weight_matching,
        activation_matching,
        activation_matching_correlation,
        chain(weight_matching, seen),
        chain(activation_matching_correlation, seen),
        *(chain(weight_matching, one) for one in on_labels(config)),
    ]
    return [method for method in listed if str(method) not in config.skip]


def in_all_kinds(config: Config) -> list[Method]:
    """What is compared where every symmetry may act."""
    listed = [weight_matching, *(chain(weight_matching, one) for one in on_labels(config))]
    return [method for method in listed if f"{method}{ALL}" not in config.skip]


def on_labels(config: Config) -> list[Method]:
    """Methods that descend for so many steps, each on a few examples of all."""
    images = KINDS[config.kind].examples
    rebasin = sinkhorn_rebasin.using(iterations=config.steps, images=images)
    return [dataclasses.replace(rebasin, count=None), refine.using(steps=config.steps, images=images)]


def folded(network: Network, networks: PyTree) -> tuple[Network, PyTree]:
    """Stacked networks without norms' gains, shifts and centring, and what they are, with all its symmetries."""
    each = (take_networks(networks, k) for k in range(count_networks(networks)))
    found = [fold_norms(network, jax.tree.map(np.asarray, one)) for one in each]
    network, params = found[0]
    twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), network.example)
    spec = infer_spec(network.apply, params, twice, kinds="all")
    together = jax.tree.map(lambda *leaves: np.stack(leaves), *(params for _, params in found))
    return dataclasses.replace(network, spec=spec), together


def make_data(config: Config) -> zoo.Dataset:
    """Text, or pictures of which those for training are moved about: as few as they are, they would be remembered."""
    data = zoo.load_topics() if config.kind == "gpt" else zoo.load("mnist", data_dir=config.data_dir)
    few = lambda part: take_examples(part, slice(config.images))
    data = data._replace(train=few(data.train), validation=few(data.validation), test=few(data.test))
    return data if config.kind == "gpt" else data._replace(name=f"moved_{data.name}", train=moved(data.train))


def moved(pictures: Data, *, copies: int = 4, most: int = 2) -> Data:
    """Each picture `[h, w, c]` once as it is and else moved up to so many pixels each way, the edge continued."""
    rng = np.random.default_rng(3)
    padded = np.pad(pictures.inputs, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, pictures.inputs.shape[1:3], (1, 2))
    places = rng.integers(0, 2 * most + 1, (2, copies - 1, len(padded)))
    found = [windows[np.arange(len(padded)), *place].transpose(0, 2, 3, 1) for place in places.swapaxes(0, 1)]
    return Data(np.concatenate([pictures.inputs, *found]), np.tile(pictures.labels, copies))


def make_network(config: Config, width: int, data: zoo.Dataset) -> Network:
    """The network of this width."""
    kind = KINDS[config.kind]
    own = dict(dim=width, depth=config.depth, width=2 * width, heads=kind.heads.get(width, 4), norm=config.norm)
    return build({**kind.described, **own, **({"vocabulary": data.classes} if config.kind == "gpt" else {})})


def make_networks(config: Config, width: int, data: zoo.Dataset) -> zoo.Zoo:
    """The networks of this width, trained or read from the cache; they are in `test`."""
    recipes = KINDS[config.kind].recipes
    chosen = recipes.get(width, recipes[min(recipes)])
    return zoo.get_zoo(
        make_network(config, width, data),
        data,
        dataclasses.replace(chosen, epochs=config.epochs or chosen.epochs),
        zoo.ZooSize(0, 0, config.networks),
        folder=Path(config.out) / "zoos",
        chunk=config.networks,
    )


def measure(config: Config, nets: zoo.Zoo, data: zoo.Dataset) -> dict[str, Measured]:
    """Every method on every pair, by what tables call it."""
    pairs = list(itertools.combinations(range(config.networks), 2))[: config.pairs]
    first, second = (jnp.array(side) for side in zip(*pairs, strict=True))
    train, test = study.to_device((data.train, data.test))
    seen = take_examples(train, slice(KINDS[config.kind].inputs))
    options: dict[str, Any] = dict(key=jax.random.key(2), data=seen, chunk=1, points=config.points)

    def judged(network, params, listed, ending=""):
        a, b = (take_networks(params, side) for side in (first, second))
        found = benchmark(network, listed, a, b, test, **options)
        return {report.display_name(name) + ending: one for name, one in found.items()}

    orders = judged(nets.network, nets.test, methods(config))
    return orders | judged(*folded(nets.network, nets.test), in_all_kinds(config), ALL)


def trigrams(train: Data, tuned: Data, judged: Data, classes: int) -> float:
    """The loss on `judged` of counts of characters in threes, twos and ones, mixed as is best for `tuned`."""
    before = lambda part, k: np.pad(part.inputs, ((0, 0), (k, 0)), constant_values=classes)[:, : part.inputs.shape[1]]
    # a place before the first character is a character of its own
    contexts = lambda part: (before(part, 1).ravel() * (classes + 1) + part.inputs.ravel(), part.inputs.ravel(), 0)

    counts = [np.zeros((size, classes)) for size in ((classes + 1) ** 2, classes + 1, 1)]
    for count, context in zip(counts, contexts(train), strict=True):
        np.add.at(count, (context, train.labels.ravel()), 1)

    def chances(part):
        found = [
            count[context, part.labels.ravel()] / np.maximum(count[context].sum(-1), 1)
            for count, context in zip(counts, contexts(part), strict=True)
        ]
        return np.stack([*found, np.full(found[0].shape, 1 / classes)])

    seen, weights = chances(tuned), np.full(4, 0.25)
    for _ in range(50):
        shares = weights[:, None] * seen
        weights = (shares / shares.sum(0)).mean(1)
    return float(-np.log(weights @ chances(judged)).mean())


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    name = f"transformer-{config.kind}"
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("data_dir", "out")}
    folder = report.open_run(Path(config.out) / name, settings)
    data = make_data(config)
    counted = {"trigrams": float(f"{trigrams(*data[1:4], data.classes):.5g}")} if config.kind == "gpt" else {}
    results: dict[str, Any] = {}
    found: dict[str, dict[str, Measured]] = {}
    for width in config.widths:
        found[f"width {width}"] = measure(config, make_networks(config, width, data), data)
        results = summary(found)
        results |= {
            "experiment": name,
            "question": "How much of the barrier between two transformers does each method remove?",
            # what is written holds these, should the rest be interrupted
            "config": {**settings, "widths": list(config.widths[: len(found)])},
            "zoo": {**results["zoo"], **counted},
            "caption": (
                f"{name}: means and 95 % intervals over {count_pairs(found)} pairs of {config.networks} networks a "
                f"width; pairs share networks, which intervals do not tell. {alone(results)}"
            ),
        }
        report.write_json(folder / "results.json", results)
        report.series_figure(results, folder / "series.png")
    print(report.series_table(results))
    return results


def summary(found: Mapping[str, dict[str, Measured]]) -> dict[str, Any]:
    """What was measured on networks by every method, naive among them, as results.json holds it.

    Methods are settings, networks are series; the curves of every pair are there.
    """
    panels: dict[str, dict[str, Any]] = {}
    for networks, measured in found.items():
        before = measured["naive"].curve.barrier.mean()
        for method, one in measured.items():
            figures = {
                "barrier": one.curve.barrier,
                **({"share of the naive barrier": one.curve.barrier / before} if before else {}),
                "accuracy half way": one.curve.midpoint_accuracy,
            }
            for title, values in figures.items():
                panels.setdefault(title, {}).setdefault(networks, {})[method] = report.point([values])
    naives = {networks: measured["naive"].curve for networks, measured in found.items()}
    ends = {
        networks: {part: float(f"{getattr(curve, part)[:, [0, -1]].mean():.5g}") for part in ("loss", "accuracy")}
        for networks, curve in naives.items()
    }
    return {
        "environment": report.environment(),
        "zoo": {"networks": ends},
        "axis": "method",
        "settings": list(next(iter(found.values()))),
        "panels": panels,
        "curves": {
            networks: {
                method: {part: np.round(getattr(one.curve, part), 5).tolist() for part in ("loss", "accuracy")}
                for method, one in measured.items()
            }
            for networks, measured in found.items()
        },
        "seconds": {
            networks: {method: round(float(one.seconds.mean()), 4) for method, one in measured.items()}
            for networks, measured in found.items()
        },
    }


def count_pairs(found: Mapping[str, dict[str, Measured]]) -> int:
    """On which methods were measured, of each kind of networks."""
    return len(next(iter(found.values()))["naive"].curve.barrier)


def alone(results: Mapping[str, Any]) -> str:
    """A sentence on the networks themselves."""
    ends = results["zoo"]["networks"].items()
    told = "; ".join(f"{at}: loss {one['loss']:.3f}, accuracy {one['accuracy']:.3f}" for at, one in ends)
    return f"Networks alone, {told}."


if __name__ == "__main__":
    study.run(main, read_config)
