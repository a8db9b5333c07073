"""One aligner for transformers in every symmetry: trained on small ones, judged on unseen and on larger ones.

    python experiments/transformer_aligner.py --data-dir DIR   vision transformers; a quarter of an hour of one CPU core
    python experiments/transformer_aligner.py --kind gpt       language models of characters; needs no data on disk
    python experiments/transformer_aligner.py --kind gpt --preset smoke   a check in minutes

Norms are folded into the maps beside them (`fold_norms`), so that the residual stream may be rotated, heads change
their bases and units their order; the aligner learns from planted elements of all these and from the loss half way
between two networks. It brings its own few inputs, which it learns where they are numbers: a pass asks for no data.
With descent behind it the answers of the merged network to a few examples without labels are brought closer to the mean
answer of the two. Parameters belong to roles, so that the same aligner takes the wider and deeper networks of
train_transformer.py.
Writes runs/<kind>-aligner/: config.json, results.json, series.png, the aligner and its training.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import study
import train_transformer as transformers

from dwalign import deepalign, report, zoo
from dwalign.bounds import Count, Points, settings
from dwalign.deepalign import Aligner, deep_align
from dwalign.evaluation import Measured, benchmark
from dwalign.matching import (
    Method,
    activation_matching_correlation,
    chain,
    gauged,
    matched,
    naive,
    refine,
    weight_matching,
)
from dwalign.program import Network, take_examples
from dwalign.symmetry import count_networks, take_networks

PyTree = Any

# of the small networks
RECIPES = {"vit": transformers.recipe(2, 32, 4e-3), "gpt": transformers.recipe(4, 16, 5e-3)}
UNTRAINED, DESCENT = "Deep-Align, untrained", "Deep-Align, descent"


@settings
class Config(study.Options):
    """Train an aligner on small transformers."""

    kind: Literal["vit", "gpt"] = "vit"
    """of pictures or text."""

    width: Count = 32
    """of the residual stream of the networks that it is trained on."""
    depth: Count = 2
    """their blocks."""
    wider: tuple[Count, ...] = (64,)
    """widths of networks of four blocks, that it was not trained on."""
    skip: tuple[str, ...] = ()
    """methods and networks to leave out, such as `width 32, held out`, where they take too long."""
    images: Count | None = None
    """or sequences, that networks are trained on and judged on; all if not given."""

    networks: study.Networks = study.Networks(train=16, validation=8, pairs=6, chunk=6)
    recipe: zoo.Recipe = RECIPES["vit"]
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(
        depth=0, updates=5, descent=20, images=32, probes=256, shared=True
    )
    training: deepalign.Optimisation = deepalign.Optimisation(
        steps=80, batch_size=2, learning_rate=5e-3, warmup=10, images=128, hard=True
    )
    losses: deepalign.LossWeights = deepalign.LossWeights(alignment=0.0, distillation=0.0)
    # layers that normalise take no scaling of single units
    augmentation: zoo.Augmentation = zoo.Augmentation(scaling=0.0)
    validate_every: Count = 20
    chunk: Count = 1
    points: Points = 3


SMOKE: study.Changes = {
    "width": 16,
    "depth": 1,
    "wider": (),
    "images": 400,
    "networks.train": 3,
    "networks.validation": 2,
    "networks.pairs": 1,
    "networks.chunk": 7,
    "aligner.descent": 2,
    "aligner.images": 8,
    "aligner.probes": 16,
    "aligner.updates": 1,
    "training.steps": 4,
    "training.batch_size": 2,
    "validate_every": 2,
    "points": 3,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, own=lambda first: {"recipe": RECIPES[first.kind]}, smoke=SMOKE)


def folded(nets: zoo.Zoo) -> zoo.Zoo:
    """The zoo with all its symmetries, see `train_transformer.folded`."""
    parts = nets.train, nets.validation, nets.test
    network, networks = transformers.folded(nets.network, jax.tree.map(lambda *x: np.concatenate(x), *parts))
    ends = np.cumsum([0, *map(count_networks, parts)])
    train, validation, test = (take_networks(networks, slice(*cut)) for cut in itertools.pairwise(ends))
    return nets._replace(network=network, train=train, validation=validation, test=test)


def train(config: Config, nets: zoo.Zoo, data: zoo.Dataset, folder: Path) -> Aligner:
    """The aligner that is best without descent on validation networks; it learns nothing for descent."""
    network = nets.network
    reduced = nets._replace(
        network=matched(network),
        train=jax.device_put(gauged(network, nets.train)[1]),
        validation=jax.device_put(gauged(network, nets.validation)[1]),
    )
    train, validation = study.to_device((data.train, data.validation))
    plain = study.change(config, {"aligner.descent": 0, "seeds": 1})
    few = take_examples(train, slice(config.refine_images))
    (trained,) = study.train_aligners(plain, reduced, train, few, validation, folder)
    return trained.aligner


def passes(config: Config, network: Network, example: PyTree, aligner: Aligner, inputs: jax.Array) -> list[Method]:
    """Untrained, without data and with descent: the passes of an aligner through networks of any size.

    Descent takes the first of these inputs; the others bring those that they have learned.
    """
    made = lambda descent: deepalign.make_model(network, dataclasses.replace(config.aligner, descent=descent), inputs)
    whole, plain = made(config.aligner.descent), made(0)
    begun = deepalign.init_state(whole, config.training, example, 0).variables["params"]
    fitted = deepalign.fit_aligner(Aligner(plain, aligner.variables), matched(network))
    ways = {
        UNTRAINED: Aligner(plain, {"params": begun}),
        str(deep_align): fitted,
        DESCENT: Aligner(whole, {"params": begun | fitted.variables["params"]}),
    }
    return [dataclasses.replace(deep_align.using(aligner=one), name=name) for name, one in ways.items()]


def judge(
    config: Config, original: Network, networks: PyTree, pairs: Any, aligner: Aligner, data: zoo.Dataset
) -> dict[str, Measured]:
    """Every method on pairs of stacked networks, by what tables call it."""
    train, test = study.to_device((data.train, data.test))
    few = take_examples(train, slice(config.refine_images))
    options: dict[str, Any] = dict(key=jax.random.key(2), data=few, chunk=config.chunk, points=config.points)
    network, full = transformers.folded(original, networks)
    *learned, last = passes(config, network, take_networks(full, 0), aligner, few.inputs)
    # as many labelled examples in each step as descent sees without labels
    labelled = refine.using(steps=config.aligner.descent, images=config.aligner.images)
    listed = [weight_matching, activation_matching_correlation, *learned, last, chain(last, labelled)]
    methods = [method for method in listed if str(method) not in config.skip]
    found: dict[str, Measured] = {}
    for net, some, params in ((original, [naive], networks), (network, methods, full)):
        a, b = (take_networks(params, index) for index in pairs)
        found |= benchmark(net, some, a, b, test, **options)
    return {report.display_name(name): one for name, one in found.items()}


def subjects(
    config: Config, base: transformers.Config, nets: zoo.Zoo, data: zoo.Dataset
) -> Iterator[tuple[str, Network, PyTree, Any]]:
    """Names, networks that the aligner was not trained on, and their pairs."""
    first = zoo.held_out_pairs(2 * config.networks.pairs)
    yield f"width {config.width}, held out", nets.network, nets.test, first
    every = np.array(list(itertools.combinations(range(base.networks), 2))).T
    for width in config.wider:
        wider = transformers.make_networks(base, width, data)
        yield f"width {width}, {base.depth} blocks", wider.network, wider.test, every


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    experiment = f"{config.kind}-aligner"
    folder, settings = study.open_folder(config, experiment)
    base = transformers.Config(kind=config.kind, data_dir=config.data_dir, images=config.images, out=config.out)
    data = transformers.make_data(base)
    small = transformers.make_network(dataclasses.replace(base, depth=config.depth), config.width, data)
    nets = study.make_zoo(config, small, data)
    aligner = train(config, folded(nets), data, folder)

    found = {}
    # what is written holds those that were judged, should the rest be interrupted
    for name, network, networks, pairs in subjects(config, base, nets, data):
        if name in config.skip:
            continue
        found[name] = judge(config, network, networks, pairs, aligner, data)
        results = transformers.summary(found)
        results |= {
            "experiment": experiment,
            "question": "Does an aligner learn every symmetry of transformers, and take it to larger ones?",
            "config": settings,
            "caption": (
                f"{experiment}: trained on {config.networks.train} networks of width {config.width} and {config.depth} "
                f"blocks; means and 95 % intervals over {transformers.count_pairs(found)} pairs, full test set; those "
                f"of wider networks are all pairs of {base.networks}. {transformers.alone(results)}"
            ),
        }
        report.write_json(folder / "results.json", results)
        report.series_figure(results, folder / "series.png")
    print(report.series_table(results))
    return results


if __name__ == "__main__":
    study.run(main, read_config)
