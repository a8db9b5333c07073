"""One aligner for networks of any architecture: trained on a mixture, judged on architectures and data it never saw.

    python experiments/train_any.py                   as what ships was made; --tries 0 searches for nothing
    python experiments/train_any.py --again           judges what ships, and searches for nothing
    python experiments/train_any.py --preset hour     fresh networks in every round, on 2 CPU cores
    python experiments/train_any.py --preset minutes  likewise, more at once: ten minutes on an accelerator, reckoned
    python experiments/train_any.py --preset hours    likewise, wider and deeper ones too: three hours, reckoned
    python experiments/train_any.py --preset smoke    a check in minutes
    python experiments/train_any.py --ship            and put the aligner and its card into the package

The aligner looks at no labels: what two networks answer to some inputs is compared, the weights have their say in
learned updates, and descent brings the answers of the merged network closer to the mean answer of the two. Where nobody
gives inputs, noise takes their place. It has so few numbers that they are searched for: gradients of the losses of
Deep-Align made it worse. The search goes on in rounds, for each of which networks of the next settings are trained,
divided over all devices; they are what their number makes them, so that --resume goes on as if nothing had happened.
Settings for training, for validation and for judging are apart; judged are all methods that need no training too, on
the order of units alone and with every kind of symmetry. Writes runs/any/: config.json, the search, the aligner,
results.json and kinds.json with a figure each; what is judged is written setting by setting.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import study
from paired.pairs import with_all_kinds

from dwalign import deepalign, report, zoo
from dwalign.bounds import Amount, Count, Points, Positive, settings
from dwalign.deepalign import Aligner, deep_align
from dwalign.evaluation import Measured, benchmark, mean_barrier
from dwalign.files import save_params
from dwalign.matching import (
    Method,
    activation_matching,
    activation_matching_correlation,
    anchored_matching,
    chain,
    naive,
    refine,
    weight_matching,
)
from dwalign.networks import cnn, from_module, mixer, mlp, recurrent, resnet, vgg, vit
from dwalign.processes import over_devices
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import count_networks, take_networks

PyTree = Any
Kinds = Literal["permutation", "all"]
FILES: dict[Kinds, str] = {"permutation": "results.json", "all": "kinds.json"}
# the mean over some pairs of networks, of the variables of an aligner
Barrier = Callable[[PyTree], float]
# a barrier so low that it hardly matters how low
SMALL = 0.01
BASELINES = (weight_matching, anchored_matching, activation_matching, activation_matching_correlation)


class ActivatedMLP(nn.Module):
    """Hidden layers of another activation than ReLU."""

    activation: Callable[[jax.Array], jax.Array]
    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        for k in range(self.depth):
            x = self.activation(nn.Dense(self.width, name=f"dense_{k}")(x))
        return nn.Dense(10, name="head")(x)


class Setting(NamedTuple):
    """A kind of networks and the data that they learn.

    Attributes:
      make: the network for inputs of a shape.
      dataset: by its name.
      flat: whether pictures enter as `[m, values]`; otherwise as they are, and rows of them with `rows`.
      side: pictures are averaged down to it.
    """

    make: Callable[[tuple[int, ...]], Network]
    dataset: str = "digits"
    form: str = "picture"
    side: int = 8


def dense(*widths: int) -> Callable[[tuple[int, ...]], Network]:
    """An MLP."""
    return lambda shape: mlp(shape[0], widths, 10)


def activated(
    activation: Callable[[jax.Array], jax.Array], width: int, depth: int
) -> Callable[[tuple[int, ...]], Network]:
    """An MLP of another activation."""
    return lambda shape: from_module(ActivatedMLP(activation, width, depth), jnp.zeros((1, *shape)), {})


MIXTURE = {
    "MLP 4 x 64": Setting(dense(64, 64, 64, 64), form="flat"),
    "GELU MLP 3 x 40, rotated digits": Setting(activated(nn.gelu, 40, 3), "rotated_digits", "flat"),
    "CNN": Setting(lambda shape: cnn(shape, (12, 16), (32,))),
    "VGG of two stages with batch norm": Setting(lambda shape: vgg(shape, ((16,), (32,)), (), 10, "batch")),
    "ResNet of one stage with layer norm": Setting(lambda shape: resnet(shape, 16, (1,), 10, "layer")),
    "mixer, rotated digits": Setting(lambda shape: mixer(shape, 2, 24, 1, 16, 32), "rotated_digits"),
    "wide GRU": Setting(lambda shape: recurrent(shape[1], (40,), 10, "gru", shape[0]), form="rows"),
    "LSTM, rotated digits": Setting(
        lambda shape: recurrent(shape[1], (24,), 10, "lstm", shape[0]), "rotated_digits", "rows"
    ),
    "ViT, photo_patches": Setting(lambda shape: vit(shape, 2, 24, 1, 2, width=32), "photo_patches"),
}
LARGE = {
    "MLP 6 x 256": Setting(dense(*[256] * 6), form="flat"),
    "GELU MLP 4 x 192, photo_patches": Setting(activated(nn.gelu, 192, 4), "photo_patches", "flat"),
    "CNN of three layers": Setting(lambda shape: cnn(shape, (32, 48, 64), (128,))),
    "VGG of three stages with batch norm, photo_patches": Setting(
        lambda shape: vgg(shape, ((32, 32), (64, 64), (128,)), (), 10, "batch"), "photo_patches"
    ),
    "ResNet of two stages with layer norm, rotated digits": Setting(
        lambda shape: resnet(shape, 32, (2, 2), 10, "layer"), "rotated_digits"
    ),
    "mixer of three blocks": Setting(lambda shape: mixer(shape, 2, 64, 3, 32, 128)),
    "wide GRU, photo_patches": Setting(
        lambda shape: recurrent(shape[1], (128,), 10, "gru", shape[0]), "photo_patches", "rows"
    ),
    "ViT of three blocks, rotated digits": Setting(lambda shape: vit(shape, 2, 64, 3, 4, width=128), "rotated_digits"),
}
VALIDATION = {
    "MLP 3 x 40, rotated digits": Setting(dense(40, 40, 40), "rotated_digits", "flat"),
    "tanh MLP 3 x 32": Setting(activated(nn.tanh, 32, 3), form="flat"),
    "CNN, rotated digits": Setting(lambda shape: cnn(shape, (8, 16), (32,)), "rotated_digits"),
    "mixer": Setting(lambda shape: mixer(shape, 2, 16, 1, 16, 32)),
    "LSTM": Setting(lambda shape: recurrent(shape[1], (16,), 10, "lstm", shape[0]), form="rows"),
    "ViT": Setting(lambda shape: vit(shape, 2, 16, 1, 2, width=32)),
}
UNSEEN = {
    "GRU": Setting(lambda shape: recurrent(shape[1], (24,), 10, "gru", shape[0]), form="rows"),
    "MLP 5 x 48, rotated digits": Setting(dense(48, 48, 48, 48, 48), "rotated_digits", "flat"),
    "VGG with batch norm": Setting(lambda shape: vgg(shape, ((8,), (16, 16)), (), 10, "batch")),
    "MLP 2 x 64, photo_patches": Setting(dense(64, 64), "photo_patches", "flat", 8),
    "ResNet with layer norm": Setting(lambda shape: resnet(shape, 8, (1, 1), 10, "layer")),
    "CNN, photo_patches": Setting(lambda shape: cnn(shape, (8, 8), (24,)), "photo_patches"),
    "MLP 3 x 96, MNIST": Setting(dense(96, 96, 96), "mnist", "flat", 14),
    "MLP 5 x 96, rotated digits": Setting(dense(96, 96, 96, 96, 96), "rotated_digits", "flat"),
    "tanh MLP 4 x 48, photo_patches": Setting(activated(nn.tanh, 48, 4), "photo_patches", "flat", 8),
    "CNN of three layers, photo_patches": Setting(lambda shape: cnn(shape, (8, 8, 16), (24,)), "photo_patches"),
    "VGG with batch norm, rotated digits": Setting(
        lambda shape: vgg(shape, ((8, 8), (16,)), (), 10, "batch"), "rotated_digits"
    ),
    "ResNet with batch norm": Setting(lambda shape: resnet(shape, 8, (1, 1), 10, "batch")),
    "mixer, photo_patches": Setting(lambda shape: mixer(shape, 2, 24, 1, 16, 48), "photo_patches"),
    "GRU, rotated digits": Setting(
        lambda shape: recurrent(shape[1], (32,), 10, "gru", shape[0]), "rotated_digits", "rows"
    ),
    "ViT, rotated digits": Setting(lambda shape: vit(shape, 2, 24, 1, 4, width=48), "rotated_digits"),
    "tanh MLP 3 x 64, rotated digits": Setting(activated(nn.tanh, 64, 3), "rotated_digits", "flat"),
    "MLP 6 x 64, MNIST": Setting(dense(64, 64, 64, 64, 64, 64), "mnist", "flat", 14),
    "mixer of two blocks, rotated digits": Setting(lambda shape: mixer(shape, 2, 16, 2, 16, 32), "rotated_digits"),
    "ViT of two blocks": Setting(lambda shape: vit(shape, 2, 24, 2, 2, width=48)),
    "GRU, MNIST": Setting(lambda shape: recurrent(shape[1], (32,), 10, "gru", shape[0]), "mnist", "rows", 14),
    "CNN, MNIST": Setting(lambda shape: cnn(shape, (8, 16), (32,)), "mnist", side=14),
    "VGG with batch norm, MNIST": Setting(lambda shape: vgg(shape, ((16,), (32,)), (), 10, "batch"), "mnist", side=7),
    "ResNet with layer norm, photo_patches": Setting(
        lambda shape: resnet(shape, 16, (1, 1), 10, "layer"), "photo_patches"
    ),
}
TRAINED = MIXTURE | LARGE
# the others were looked at while the aligner was made
FRESH = tuple(UNSEEN)[-8:]


@settings
class Config(study.Options):
    """Train one aligner for networks of any architecture, and judge it on some that it never saw."""

    ship: bool = False
    """write the aligner and its card into the package."""
    again: bool = False
    """judge the aligner of the package, in place of one that is searched for."""
    kinds: tuple[Kinds, ...] = ("permutation", "all")
    """of symmetry that are judged, each into a file of its own."""
    unseen: tuple[str, ...] = FRESH
    """settings that it is judged on; MNIST asks for `--data-dir`."""
    mixture: tuple[str, ...] = tuple(MIXTURE)
    """settings that the search lowers the barrier of, in turn."""
    validation: tuple[str, ...] = tuple(VALIDATION)
    """settings that choose among what it finds."""
    networks: study.Networks = study.Networks(train=16, validation=8, pairs=20, chunk=20)
    """for training of each setting of a round, for validation of each of its settings, and for judging."""
    recipe: zoo.Recipe = zoo.Recipe(epochs=20)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="noise", probes=256, descent=40, images=16)
    """where there are inputs."""
    blind: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="noise", probes=256, descent=20)
    """where there are none: many steps follow noise further than it tells about the data."""
    tries: Amount = 50
    """of the search."""
    tries_a_round: Count = 50
    """that are compared on the same networks, and with what is best so far; others are trained for the next round."""
    settings_a_round: Count = len(MIXTURE)
    """of the mixture, that these are networks of."""
    batch: Count = 1
    """pairs that each device aligns at once for the search."""
    validate_every: Count = 5
    """tries, and what each round begins with."""
    step: Positive = 0.25
    """of the search, a standard deviation of logarithms."""
    chunk: Count = 20
    points: Points = 3


SMOKE: study.Changes = {
    "networks.train": 2,
    "networks.validation": 2,
    "networks.pairs": 2,
    "networks.chunk": 4,
    "mixture": ("MLP 4 x 64",),
    "validation": ("tanh MLP 3 x 32",),
    "recipe.epochs": 2,
    "aligner.probes": 8,
    "aligner.descent": 2,
    "aligner.images": 4,
    "blind.probes": 8,
    "blind.descent": 2,
    "blind.updates": 1,
    "aligner.updates": 1,
    "tries": 1,
    "settings_a_round": 1,
    "unseen": ("GRU",),
    "chunk": 2,
}

# on two cores 20 networks of a setting took 5 to 101 seconds to train, with compilation, and a pair .08 to align and to
# judge: eight rounds of some five minutes
HOUR: study.Changes = {"tries": 200, "tries_a_round": 25, "validate_every": 13}
# reckoned, for no card has run it: ten rounds of a minute, where the programs of an earlier run are kept
MINUTES: study.Changes = {
    "tries": 40,
    "tries_a_round": 4,
    "networks.train": 64,
    "batch": 32,
    "validate_every": 5,
}
# likewise: thirty rounds of six minutes
HOURS: study.Changes = {
    "mixture": tuple(TRAINED),
    "settings_a_round": len(TRAINED),
    "tries": 300,
    "tries_a_round": 10,
    "networks.train": 64,
    "batch": 32,
    "validate_every": 11,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    presets = {"hour": HOUR, "minutes": MINUTES, "hours": HOURS, "smoke": SMOKE}
    return study.read_options(Config, args, __doc__, **presets)


def open_setting(config: Config, setting: Setting) -> tuple[Network, zoo.Dataset]:
    """The network and its data."""
    data = study.shrink(zoo.load(setting.dataset, data_dir=config.data_dir), setting.side)

    def one(part: Data) -> Data:
        m, h, w, c = part.inputs.shape
        shapes = {"picture": (m, h, w, c), "rows": (m, h, w * c), "flat": (m, h * w * c)}
        return Data(np.ascontiguousarray(part.inputs.reshape(shapes[setting.form])), part.labels)

    data = data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))
    return setting.make(data.train.inputs.shape[1:]), data


class Found(NamedTuple):
    """The variables of one aligner where there are inputs, and where there are none."""

    sees: PyTree
    blind: PyTree


def shipped() -> Found:
    """What the package holds."""
    return Found(*(deepalign.read_shipped("any", blind=blind).variables for blind in (False, True)))


def train(config: Config, folder: Path) -> Found:
    """The aligner that merges networks of the mixture best: of its few numbers, those that a random search finds.

    Each try moves all numbers of the best so far by factors, and is kept where the mean of the logarithms of the
    barriers falls, over the networks of the round. Which of the best of all tries it is, or the start, validation says.
    Without inputs the numbers are those that it starts with: with noise the search found none better on MLPs.
    """
    network, data = open_setting(config, TRAINED[config.mixture[0]])
    few = take_examples(data.train, slice(config.refine_images))
    model = deepalign.make_model(network, config.aligner, few.inputs)
    start = deepalign.init_state(model, config.training, network.init(jax.random.key(0)), 0).variables
    if not config.tries:
        return Found(start, start)
    streams = [stream(config, TRAINED[name]) for name in config.mixture]
    validation = [held_out(config, VALIDATION[name]) for name in config.validation]
    trained = deepalign.train_aligner(
        model,
        deepalign.make_search(
            mixture(streams, config.settings_a_round), step=config.step, every=config.tries_a_round + 1
        ),
        deepalign.begin_search(start),
        # each round begins with what is best so far
        steps=config.tries + -(-config.tries // config.tries_a_round),
        validate=lambda aligner: mean_logarithm(measure(validation, aligner.variables)),
        validate_every=config.validate_every,
        folder=folder,
        info=deepalign.describe(network, config.aligner, few.inputs),
        resume=config.resume,
    )
    ends = (trained.aligner.variables, start)
    return Found(min(ends, key=lambda variables: mean_logarithm(measure(validation, variables))), start)


def measure(barriers: Sequence[Barrier], variables: PyTree) -> np.ndarray:
    """What these variables leave in each setting, `[settings]`."""
    return np.array([barrier(variables) for barrier in barriers])


def mean_logarithm(left: np.ndarray) -> np.ndarray:
    """Of what is left in `[..., settings]`: all of them count alike, whatever it is."""
    return np.log(left + SMALL).mean(-1)


def mixture(parts: Sequence[Callable[[int], Barrier]], few: int) -> Callable[[PyTree, int], float]:
    """What the search lowers: the mean logarithm of the barriers of variables on the networks of a round.

    Each round takes the next `few` settings in turn, and of each the part that follows what it had before.
    """

    # no round before the last is asked for again
    @functools.lru_cache(1)
    def barriers(number):
        turns = range(number * few, (number + 1) * few)
        return [parts[turn % len(parts)](turn // len(parts)) for turn in turns]

    return lambda variables, number: mean_logarithm(measure(barriers(number), variables))


def stream(config: Config, setting: Setting) -> Callable[[int], Barrier]:
    """The barrier on the first networks of a setting, on those that follow, and so on without end."""
    network, data = open_setting(config, setting)
    between, size, over = judging(config, network, data), config.networks.train, over_devices()
    train = zoo.train_networks(network, study.to_device(data.train), config.recipe)
    # what devices train beyond them is left out
    whole = -(-size // over.num_devices) * over.num_devices

    def part(number):
        networks = train(jax.device_put(number * size + jnp.arange(whole), over))
        return between(take_networks(networks, slice(size)))

    return part


def held_out(config: Config, setting: Setting) -> Barrier:
    """The barrier on the networks of a setting that are kept for validation."""
    network, data = open_setting(config, setting)
    only = study.change(config, {"networks.train": 0, "networks.pairs": 0})
    return judging(config, network, data)(study.make_zoo(only, network, data).validation)


def judging(config: Config, network: Network, data: zoo.Dataset) -> Callable[[PyTree], Barrier]:
    """From networks to the mean barrier between every other one and the next, on validation images."""
    few, validation = take_examples(study.to_device(data.train), slice(config.refine_images)), data.validation
    model, judged_on = deepalign.make_model(network, config.aligner, few.inputs), study.to_device(validation)

    def between(networks):
        pairs = [take_networks(networks, index) for index in zoo.held_out_pairs(count_networks(networks))]
        mean = mean_barrier(network, *pairs, judged_on, renew=few.inputs, batch=config.batch)
        return lambda variables: mean(deep_align.using(aligner=Aligner(model, variables)))

    return between


def judge(config: Config, setting: Setting, found: Found, kinds: Kinds) -> dict[str, Measured]:
    """Naive, what needs no training, the aligner on noise and on inputs of the data, and refinement with labels."""
    network, data = open_setting(config, setting)
    nets = study.make_test_zoo(config, network, data)
    few = take_examples(study.to_device(data.train), slice(config.refine_images))
    if kinds == "all":
        network = with_all_kinds(network, take_networks(nets.test, 0), few.inputs)

    def named(name, config, variables, inputs=None):
        own = Aligner(deepalign.make_model(network, config, inputs), variables)
        return dataclasses.replace(deep_align.using(aligner=own), name=name)

    blind = named("any", config.blind, found.blind)
    sees = named("any on inputs", config.aligner, found.sees, few.inputs)
    labelled = refine.using(steps=config.aligner.descent, images=config.aligner.images)
    starts = (activation_matching_correlation, sees) if kinds == "permutation" else ()
    methods = [naive, *BASELINES, blind, sees, *(chain(start, labelled) for start in starts)]
    return on_pairs(config, network, data, nets.test, methods)


def on_pairs(
    config: Config, network: Network, data: zoo.Dataset, networks: PyTree, methods: Sequence[Method]
) -> dict[str, Measured]:
    """The methods on pairs of networks that nothing else saw, by test images."""
    train, test = study.to_device((data.train, data.test))
    few = take_examples(train, slice(config.refine_images))
    first, second = (index[: config.networks.pairs] for index in zoo.held_out_pairs(2 * config.networks.pairs))
    return benchmark(
        network,
        methods,
        take_networks(networks, first),
        take_networks(networks, second),
        test,
        key=jax.random.key(2),
        data=few,
        chunk=config.chunk,
        points=config.points,
        renew=few.inputs,
    )


def judge_all(config: Config, settings: dict[str, Any], found: Found, kinds: Kinds, file: Path) -> dict[str, Any]:
    """What the file of results holds that this writes, setting by setting, and its figure."""
    panels: dict[str, dict[str, dict[str, Any]]] = {"barrier": {}, "seconds a pair": {}}
    about = {
        "permutation": f"Refinement, which is given labels, sees {config.aligner.images} of {config.refine_images} "
        "images a step.",
        "all": "All methods know every kind of symmetry that the networks have.",
    }[kinds]
    for name in config.unseen:
        for method, one in judge(config, UNSEEN[name], found, kinds).items():
            values = {"barrier": one.curve.barrier, "seconds a pair": one.seconds}
            for panel, numbers in values.items():
                panels[panel].setdefault(report.display_name(method), {})[name] = report.point([np.ravel(numbers)])
        results = {
            "experiment": "any" if kinds == "permutation" else "any-kinds",
            "question": "One aligner for every architecture: how does it do on networks and data that it never saw?",
            "config": settings,
            "environment": report.environment(),
            "axis": "networks, all unseen",
            "settings": [one for one in config.unseen if one in panels["barrier"]["any"]],
            "panels": panels,
            "logarithmic": True,
            "caption": f"any: means and 95 % intervals over {config.networks.pairs} held-out pairs of networks and one "
            f"aligner, {made(config)}. {about}",
        }
        report.write_json(file, results)
    report.series_figure(results, file.with_suffix(".png"))
    print(report.series_table(results))
    return results


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what its first file of results holds."""
    if config.ship and "permutation" not in config.kinds:
        raise report.RunError(f"options: with ship, kinds must hold permutation, found {config.kinds}")
    folder, settings = study.open_folder(config, "any")
    found = shipped() if config.again else train(config, folder / "search")
    save_params(folder / "aligner.safetensors", found._asdict())
    results = {kinds: judge_all(config, settings, found, kinds, folder / FILES[kinds]) for kinds in config.kinds}
    if config.ship:
        ship(config, found, results["permutation"])
    return results[config.kinds[0]]


def made(config: Config) -> str:
    """How the numbers of the aligner were found."""
    if not config.tries:
        return "whose numbers are those that it starts with: nothing was searched for"
    pairs, settings, few = config.networks.train // 2, len(config.mixture), config.settings_a_round
    found = f"the best of {config.tries} tries on {pairs} pairs of each of"
    if config.tries <= config.tries_a_round:
        return f"{found} {min(few, settings)} settings"
    return f"{found} {few} of {settings} settings, trained anew after every {config.tries_a_round}"


def ship(config: Config, found: Found, results: dict[str, Any]) -> None:
    """The aligner and its card, into the package."""
    barrier = results["panels"]["barrier"]
    card = {
        "licence": "MIT",
        "made": made(config),
        "trained_on": [*config.mixture],
        "chosen_on": [*config.validation, *(name for name in UNSEEN if name not in FRESH)],
        "barrier": {
            method: {setting: found["mean"] for setting, found in points.items()} for method, points in barrier.items()
        },
        "limits": "networks whose inputs are one array of real numbers and whose outputs are logits; judged on small "
        "ones that classify small pictures",
    }
    deepalign.write_shipped(
        "any",
        deepalign.Shipped(config.aligner, found.sees),
        deepalign.Shipped(config.blind, found.blind),
        card,
    )


if __name__ == "__main__":
    study.run(main, read_config)
