"""One aligner for networks of any architecture: trained on a mixture, judged on architectures and data it never saw.

    python experiments/train_any.py                   an hour or more on 2 CPU cores; --tries 0 searches for nothing
    python experiments/train_any.py --preset smoke    a check in minutes
    python experiments/train_any.py --ship            and put the aligner and its card into the package

The aligner looks at neither data nor labels: both networks answer to the same noise, what they answer is compared, the
weights have their say in learned updates, and descent brings the answers of the merged network to noise closer to the
mean answer of the two. Inputs, where somebody gives them, take the place of noise. It has so few numbers that they are
searched for: gradients of the losses of Deep-Align made it worse. Settings for training, for validation and for judging
are apart. Writes runs/any/: config.json, the aligner, results.json, figure.png; what is judged is written setting by
setting.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.bounds import Amount, Count, Points, Positive, settings
from dwalign.deepalign import Aligner, deep_align
from dwalign.evaluation import Measured, benchmark, mean_barrier
from dwalign.files import save_params
from dwalign.matching import activation_matching, activation_matching_correlation, chain, naive, refine, weight_matching
from dwalign.networks import cnn, from_module, mixer, mlp, recurrent, resnet, vgg, vit
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import take_networks

BASELINES = (weight_matching, activation_matching, activation_matching_correlation)


class TanhMLP(nn.Module):
    """Hidden layers of an activation that the mixture does not have."""

    width: int
    depth: int

    @nn.compact
    def __call__(self, x):
        for k in range(self.depth):
            x = nn.tanh(nn.Dense(self.width, name=f"dense_{k}")(x))
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


def tanh(width: int, depth: int) -> Callable[[tuple[int, ...]], Network]:
    """An MLP of tanh."""
    return lambda shape: from_module(TanhMLP(width, depth), jnp.zeros((1, *shape)), {})


MIXTURE = {
    "MLP 2 x 24": Setting(dense(24, 24), form="flat"),
    "MLP 4 x 16": Setting(dense(16, 16, 16, 16), form="flat"),
}
VALIDATION = {"MLP 3 x 40, rotated digits": Setting(dense(40, 40, 40), "rotated_digits", "flat")}
UNSEEN = {
    "tanh MLP 3 x 32": Setting(tanh(32, 3), form="flat"),
    "CNN, rotated digits": Setting(lambda shape: cnn(shape, (8, 16), (32,)), "rotated_digits"),
    "GRU": Setting(lambda shape: recurrent(shape[1], (24,), 10, "gru", shape[0]), form="rows"),
    "MLP 5 x 48, rotated digits": Setting(dense(48, 48, 48, 48, 48), "rotated_digits", "flat"),
    "mixer": Setting(lambda shape: mixer(shape, 2, 16, 1, 16, 32)),
    "VGG with batch norm": Setting(lambda shape: vgg(shape, ((8,), (16, 16)), (), 10, "batch")),
    "MLP 2 x 64, photo_patches": Setting(dense(64, 64), "photo_patches", "flat", 8),
    "ResNet with layer norm": Setting(lambda shape: resnet(shape, 8, (1, 1), 10, "layer")),
    "LSTM": Setting(lambda shape: recurrent(shape[1], (16,), 10, "lstm", shape[0]), form="rows"),
    "ViT": Setting(lambda shape: vit(shape, 2, 16, 1, 2, width=32)),
    "CNN, photo_patches": Setting(lambda shape: cnn(shape, (8, 8), (24,)), "photo_patches"),
    "MLP 3 x 96, MNIST": Setting(dense(96, 96, 96), "mnist", "flat", 14),
    "MLP 5 x 96, rotated digits": Setting(dense(96, 96, 96, 96, 96), "rotated_digits", "flat"),
    "tanh MLP 4 x 48, photo_patches": Setting(tanh(48, 4), "photo_patches", "flat", 8),
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
}
# the others were looked at while the aligner was made
FRESH = tuple(UNSEEN)[-8:]


@settings
class Config(study.Options):
    """Train one aligner for networks of any architecture, and judge it on some that it never saw."""

    ship: bool = False
    """write the aligner and its card into the package."""
    unseen: tuple[str, ...] = FRESH
    """settings that it is judged on; MNIST asks for `--data-dir`."""
    networks: study.Networks = study.Networks(train=40, validation=16, pairs=20, chunk=20)
    recipe: zoo.Recipe = zoo.Recipe(epochs=20)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="noise", probes=256, descent=80, images=16)
    """where there are inputs."""
    blind: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="noise", probes=256, descent=20)
    """where there are none: many steps follow noise further than it tells about the data."""
    tries: Amount = 60
    """of the search."""
    step: Positive = 0.25
    """of the search, a standard deviation of logarithms."""
    chunk: Count = 20
    points: Points = 3


SMOKE: study.Changes = {
    "networks.train": 4,
    "networks.validation": 2,
    "networks.pairs": 2,
    "networks.chunk": 4,
    "recipe.epochs": 2,
    "aligner.probes": 8,
    "aligner.descent": 2,
    "aligner.images": 4,
    "blind.probes": 8,
    "blind.descent": 2,
    "blind.updates": 1,
    "aligner.updates": 1,
    "tries": 1,
    "unseen": ("tanh MLP 3 x 32",),
    "chunk": 2,
}


def read_config(args: list[str]) -> Config:
    """Command line to config."""
    return study.read_options(Config, args, __doc__, smoke=SMOKE)


def open_setting(config: Config, setting: Setting) -> tuple[Network, zoo.Dataset]:
    """The network and its data."""
    data = study.shrink(zoo.load(setting.dataset, data_dir=config.data_dir), setting.side)

    def one(part: Data) -> Data:
        m, h, w, c = part.inputs.shape
        shapes = {"picture": (m, h, w, c), "rows": (m, h, w * c), "flat": (m, h * w * c)}
        return Data(np.ascontiguousarray(part.inputs.reshape(shapes[setting.form])), part.labels)

    data = data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))
    return setting.make(data.train.inputs.shape[1:]), data


def train(config: Config) -> Aligner:
    """The aligner that merges networks of the mixture best: of its few numbers, those that a random search finds.

    Each try moves all numbers of the best so far by factors, and is kept where the mean of the logarithms of
    the barriers of the mixture falls. The end of the search counts where it is ahead of its start in validation, too.
    """
    network, _ = open_setting(config, next(iter(MIXTURE.values())))
    start = jax.tree.map(
        np.asarray,
        deepalign.init_state(
            deepalign.make_model(network, config.blind), config.training, network.init(jax.random.key(0)), 0
        ).variables,
    )
    if not config.tries:
        return Aligner(deepalign.make_model(network, config.blind), start)
    mixture = [barrier(config, setting, "train") for setting in MIXTURE.values()]
    validation = [barrier(config, setting, "validation") for setting in VALIDATION.values()]
    mean = lambda settings, variables: float(np.mean([np.log(one(variables) + 0.01) for one in settings]))
    search = deepalign.make_search(lambda variables: mean(mixture, variables), step=config.step)
    state = deepalign.begin_search(start)
    for number in range(config.tries + 1):
        before, (state, _) = float(state.optimiser), search(state)
        if (found := float(state.optimiser)) < before:
            validated = mean(validation, state.variables)
            print(f"try {number}: mixture {found:.3f}, validation {validated:.3f}", flush=True)
    best = state.variables
    kept = best if mean(validation, best) < mean(validation, start) else start
    print("the search is ahead in validation" if kept is best else "MISSED: the start is as good in validation")
    return Aligner(deepalign.make_model(network, config.blind), kept)


def barrier(config: Config, setting: Setting, role: str) -> Callable[[Any], float]:
    """The mean barrier of an aligner with these variables, on pairs of one role in the zoo of a setting."""
    network, data = open_setting(config, setting)
    nets = study.make_zoo(study.change(config, {"networks.pairs": 0}), network, data)
    networks = {"train": nets.train, "validation": nets.validation}[role]
    first, second = zoo.held_out_pairs(getattr(config.networks, role))
    pairs = take_networks(networks, first), take_networks(networks, second)
    mean = mean_barrier(network, *pairs, study.to_device(data.validation))
    model = deepalign.make_model(network, config.blind)
    return lambda variables: float(mean(deep_align.using(aligner=Aligner(model, variables))))


def judge(config: Config, setting: Setting, aligner: Aligner) -> dict[str, Measured]:
    """Naive, what needs no training, the aligner on noise and on inputs of the data, and refinement with labels."""
    network, data = open_setting(config, setting)
    nets = study.make_test_zoo(config, network, data)
    train, test = study.to_device((data.train, data.test))
    few = take_examples(train, slice(config.refine_images))
    first, second = (index[: config.networks.pairs] for index in zoo.held_out_pairs(2 * config.networks.pairs))

    def named(name, config, inputs):
        own = Aligner(deepalign.make_model(network, config, inputs), aligner.variables)
        return dataclasses.replace(deep_align.using(aligner=own), name=name)

    blind, sees = named("any", config.blind, None), named("any on inputs", config.aligner, few.inputs)
    labelled = refine.using(steps=config.aligner.descent, images=config.aligner.images)
    return benchmark(
        network,
        [naive, *BASELINES, blind, sees, chain(activation_matching_correlation, labelled), chain(sees, labelled)],
        take_networks(nets.test, first),
        take_networks(nets.test, second),
        test,
        key=jax.random.key(2),
        data=few,
        chunk=config.chunk,
        points=config.points,
        renew=few.inputs,
    )


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    folder, settings = study.open_folder(config, "any")
    aligner = train(config)
    save_params(folder / "aligner.safetensors", aligner.variables)
    panels: dict[str, dict[str, dict[str, Any]]] = {"barrier": {}, "seconds a pair": {}}
    for name in config.unseen:
        for method, one in judge(config, UNSEEN[name], aligner).items():
            values = {"barrier": one.curve.barrier, "seconds a pair": one.seconds}
            for panel, numbers in values.items():
                panels[panel].setdefault(report.display_name(method), {})[name] = report.point([np.ravel(numbers)])
        results = {
            "experiment": "any",
            "question": "One aligner for every architecture: how does it do on networks and data that it never saw?",
            "config": settings,
            "environment": report.environment(),
            "axis": "networks, all unseen",
            "settings": [one for one in config.unseen if one in panels["barrier"]["any"]],
            "panels": panels,
            "logarithmic": True,
            "caption": f"any: means and 95 % intervals over {config.networks.pairs} held-out pairs of networks and one "
            f"aligner, {made(config)}. Refinement, which is given labels, sees "
            f"{config.aligner.images} of {config.refine_images} images a step.",
        }
        report.write_json(folder / "results.json", results)
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    if config.ship:
        ship(config, aligner, results)
    return results


def made(config: Config) -> str:
    """How the numbers of the aligner were found."""
    if not config.tries:
        return "whose numbers are those that it starts with: nothing was searched for"
    return f"the best of {config.tries} tries on {', '.join(MIXTURE)} for digits"


def ship(config: Config, aligner: Aligner, results: dict[str, Any]) -> None:
    """The aligner and its card, into the package."""
    barrier = results["panels"]["barrier"]
    card = {
        "licence": "MIT",
        "made": made(config),
        "chosen_on": [*VALIDATION, *(name for name in UNSEEN if name not in FRESH)],
        "barrier": {
            method: {setting: found["mean"] for setting, found in points.items()} for method, points in barrier.items()
        },
        "limits": "networks whose inputs are one array of real numbers and whose outputs are logits; judged on small "
        "ones that classify small pictures",
    }
    deepalign.write_shipped("any", config.aligner, config.blind, aligner.variables, card)


if __name__ == "__main__":
    study.run(main, read_config)
