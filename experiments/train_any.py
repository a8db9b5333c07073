"""One aligner for networks of any architecture: trained on a mixture, judged on architectures and data it never saw.

    python experiments/train_any.py                   an hour on 2 CPU cores
    python experiments/train_any.py --preset smoke    a check in minutes
    python experiments/train_any.py --ship            and put the aligner and its card into the package

The aligner looks at neither data nor labels: both networks answer to the same noise, what they answer is compared, the
weights have their say in learned updates, and descent brings the answers of the merged network to noise closer to the
mean answer of the two. Steps of training go through the settings of the mixture in turn, one compiled program each.
Settings for training, for validation and for judging are apart. Writes runs/any/: config.json, metrics.jsonl,
checkpoints, results.json, figure.png; settings that are judged are written one by one, and kept with --resume.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import study

from dwalign import deepalign, report, zoo
from dwalign.deepalign import Aligner, deep_align
from dwalign.evaluation import Measured, benchmark, mean_barrier
from dwalign.files import write_bytes
from dwalign.matching import activation_matching, activation_matching_correlation, naive, weight_matching
from dwalign.networks import cnn, from_module, mixer, mlp, recurrent, resnet, vgg
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import take_networks

BASELINES = (weight_matching, activation_matching, activation_matching_correlation)


class TanhMLP(nn.Module):
    """Three hidden layers of an activation that the mixture does not have."""

    width: int

    @nn.compact
    def __call__(self, x):
        for k in range(3):
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


MIXTURE = {
    "MLP 2 x 24": Setting(dense(24, 24), form="flat"),
    "MLP 4 x 16": Setting(dense(16, 16, 16, 16), form="flat"),
}
VALIDATION = {"MLP 3 x 40, rotated digits": Setting(dense(40, 40, 40), "rotated_digits", "flat")}
UNSEEN = {
    "tanh MLP 3 x 32": Setting(lambda shape: from_module(TanhMLP(32), jnp.zeros((1, *shape)), {}), form="flat"),
    "CNN, rotated digits": Setting(lambda shape: cnn(shape, (8, 16), (32,)), "rotated_digits"),
    "GRU": Setting(lambda shape: recurrent(shape[1], (24,), 10, "gru", shape[0]), form="rows"),
    "MLP 5 x 48, rotated digits": Setting(dense(48, 48, 48, 48, 48), "rotated_digits", "flat"),
    "mixer": Setting(lambda shape: mixer(shape, 2, 16, 1, 16, 32)),
    "VGG with batch norm": Setting(lambda shape: vgg(shape, ((8,), (16, 16)), (), 10, "batch")),
    "MLP 2 x 64, photo_patches": Setting(dense(64, 64), "photo_patches", "flat", 8),
    "ResNet with layer norm": Setting(lambda shape: resnet(shape, 8, (1, 1), 10, "layer")),
}


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Train one aligner for networks of any architecture, and judge it on some that it never saw."""

    ship: bool = False
    """write the aligner and its card into the package."""
    unseen: tuple[str, ...] = tuple(UNSEEN)
    """settings that it is judged on."""
    networks: study.Networks = study.Networks(train=60, validation=16, pairs=20, chunk=20)
    recipe: zoo.Recipe = zoo.Recipe(epochs=20)
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="noise", probes=256, descent=20)
    training: deepalign.Optimisation = deepalign.Optimisation(
        steps=400, batch_size=4, learning_rate=0.03, warmup=20, images=128, hard=True
    )
    augmentation: zoo.Augmentation = zoo.Augmentation(scaling=0.0)
    unrolled: int | None = 0
    validate_every: int = 100
    chunk: int = 20
    points: int = 3


SMOKE: study.Changes = {
    "networks.train": 4,
    "networks.validation": 2,
    "networks.pairs": 2,
    "networks.chunk": 4,
    "recipe.epochs": 2,
    "aligner.probes": 8,
    "aligner.descent": 2,
    "aligner.updates": 1,
    "training.steps": 4,
    "training.warmup": 1,
    "validate_every": 2,
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


def train(config: Config, folder: Path) -> Aligner:
    """The aligner that aligns networks of the validation settings best, descent aside."""
    steps, models, networks = [], [], []
    share = study.change(config, {"networks.validation": 0, "networks.pairs": 0})
    for setting in MIXTURE.values():
        network, data = open_setting(config, setting)
        nets = study.make_zoo(share, network, data)
        model = deepalign.make_model(network, config.aligner)
        step = deepalign.make_step(
            model.clone(descent=config.unrolled),
            network,
            nets.train,
            data.train,
            weights=config.losses,
            optimisation=config.training,
            augmentation=config.augmentation,
        )
        steps, models, networks = [*steps, step], [*models, model], [*networks, nets.train]
    validate = [validation(config, setting) for setting in VALIDATION.values()]
    return deepalign.train_aligner(
        models[0],
        lambda state: steps[int(state.step) % len(steps)](state),
        deepalign.init_state(models[0], config.training, take_networks(networks[0], 0), 0),
        steps=config.training.steps,
        validate=lambda aligner: float(np.mean([one(aligner) for one in validate])),
        validate_every=config.validate_every,
        folder=folder,
        info={"aligner": dataclasses.asdict(config.aligner)},
        resume=config.resume,
    ).aligner


def validation(config: Config, setting: Setting) -> Callable[[Aligner], float]:
    """The mean barrier on validation networks of a setting of an aligner without descent, which training leaves out."""
    network, data = open_setting(config, setting)
    only = study.change(config, {"networks.train": 0, "networks.pairs": 0})
    nets = study.make_zoo(only, network, data)
    first, second = zoo.held_out_pairs(config.networks.validation)
    pairs = take_networks(nets.validation, first), take_networks(nets.validation, second)
    barrier = mean_barrier(network, *pairs, study.to_device(data.validation))
    model = deepalign.make_model(network, dataclasses.replace(config.aligner, descent=0))
    return lambda aligner: float(barrier(deep_align.using(aligner=Aligner(model, aligner.variables))))


def judge(config: Config, setting: Setting, aligner: Aligner) -> dict[str, Measured]:
    """Naive, what needs no training, the aligner, and the aligner on inputs of the data in place of noise."""
    network, data = open_setting(config, setting)
    nets = study.make_test_zoo(config, network, data)
    train, test = study.to_device((data.train, data.test))
    few = take_examples(train, slice(config.refine_images))
    first, second = (index[: config.networks.pairs] for index in zoo.held_out_pairs(2 * config.networks.pairs))
    own = lambda inputs: Aligner(deepalign.make_model(network, config.aligner, inputs), aligner.variables)
    named = lambda name, inputs: dataclasses.replace(deep_align.using(aligner=own(inputs)), name=name)
    return benchmark(
        network,
        [naive, *BASELINES, named("any", None), named("any on inputs", few.inputs)],
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
    aligner = train(config, folder)
    panels: dict[str, dict[str, dict[str, Any]]] = {"barrier": {}, "seconds a pair": {}}
    for name in config.unseen:
        for method, one in judge(config, UNSEEN[name], aligner).items():
            values = {"barrier": one.curve.barrier, "seconds a pair": one.seconds}
            for panel, numbers in values.items():
                panels[panel].setdefault(method, {})[name] = report.point([np.ravel(numbers)])
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
            f"aligner, trained on {', '.join(MIXTURE)} for digits.",
        }
        write_bytes(folder / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    report.series_figure(results, folder / "figure.png")
    print(report.series_table(results))
    if config.ship:
        ship(config, aligner, results)
    return results


def ship(config: Config, aligner: Aligner, results: dict[str, Any]) -> None:
    """The aligner and its card, into the package."""
    barrier = results["panels"]["barrier"]
    card = {
        "licence": "MIT",
        "trained_on": {"networks": list(MIXTURE), "data": "digits", "steps": config.training.steps},
        "chosen_on": list(VALIDATION),
        "barrier": {
            method: {setting: found["mean"] for setting, found in points.items()} for method, points in barrier.items()
        },
        "limits": "networks whose inputs are one array of real numbers and whose outputs are logits; judged on small "
        "ones that classify small pictures",
    }
    deepalign.write_shipped("any", config.aligner, aligner.variables, card)


if __name__ == "__main__":
    study.run(main, read_config)
