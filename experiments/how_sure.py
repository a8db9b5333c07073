"""How sure is a matching? How often partners are the right ones, on architectures that the answer has never seen.

    python experiments/how_sure.py                  about half an hour on one CPU core
    python experiments/how_sure.py --preset smoke   a check in a minute

Of each architecture parents are trained, and two children go on from every one: in other orders of the data, half of
the second children on turned pictures, with little and with so much weight decay that in the end hardly a unit can be
told. One child is relabelled, the two are matched, and right is the partner that came from the same unit of the parent.
Logistic curves are fitted on the architectures of FIT and judged on those of TEST, matched on the test images. Beside
them stand curves from BEFORE, what chances came from at first. Architectures of FIT are also judged one by one, by
curves that are fitted on the others: clues are to be chosen by that.

From weights they are fitted on all methods, from activations on those that look at inputs. Children of two parents are
strangers without right partners: of these it says what chance they get, and how often refinement with labels keeps a
partner.
Writes runs/how_sure/: config.json, results.json, confidence.json (what dwalign/evaluation holds), reliability.png.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm
from train_any import activated

from dwalign import report, zoo
from dwalign.bounds import Count, Positive, Strength, settings
from dwalign.deepalign import deep_align, load_aligner
from dwalign.evaluation import clues, predict_chance
from dwalign.matching import (
    Method,
    activation_matching_correlation,
    chain,
    correlations,
    refine,
    unit_cosines,
    weight_matching,
)
from dwalign.networks import cnn, mixer, mlp, recurrent, resnet, vgg, vit
from dwalign.program import Data, Network
from dwalign.symmetry import PermutationSpec, compose, permute, random_perms, take_networks

PyTree = Any


class Kind(NamedTuple):
    """An architecture, and what it learns.

    Attributes:
      light: as a standard deviation; every picture is brightened or darkened as a whole.
    """

    make: Callable[[], Network]
    dataset: str = "digits"
    light: float = 0.0


def dense(*widths: int, inputs: int = 64) -> Callable[[], Network]:
    """An MLP."""
    return functools.partial(mlp, inputs, widths, 10)


def of_images(make: Callable[..., Network], **options: Any) -> Callable[[], Network]:
    """A network for pictures, of 8x8 pixels if no shape is given."""
    return functools.partial(make, **({"shape": (8, 8, 1), "outputs": 10} | options))


FIT: dict[str, Kind] = {
    **{f"mlp {'-'.join(map(str, w))}": Kind(dense(*w)) for w in ((32,), (64, 64), (128, 128), (24, 24, 24, 24))},
    "mlp 64-64, changing light": Kind(dense(64, 64), light=1.0),
    "mlp 48-48-48, changing light": Kind(dense(48, 48, 48), light=1.0),
    "cnn 8-16": Kind(of_images(cnn, channels=(8, 16), widths=(32,))),
    "cnn 8-16, changing light": Kind(of_images(cnn, channels=(8, 16), widths=(32,)), light=1.0),
    "vgg": Kind(of_images(vgg, stages=((8,), (16, 16)))),
    "mixer": Kind(of_images(mixer, patch=2, dim=16, depth=1, tokens=16, width=32)),
    "gru": Kind(functools.partial(recurrent, 8, (24,))),
}
TEST: dict[str, Kind] = {
    "mlp 48-96": Kind(dense(48, 96)),
    "mlp of five layers": Kind(dense(32, 32, 32, 32, 32)),
    "tanh mlp 32-32-32": Kind(functools.partial(activated(nn.tanh, 32, 3), (64,))),
    "mlp 64-64 on photo_patches": Kind(dense(64, 64, inputs=3072), "photo_patches"),
    "cnn 8-8 on photo_patches": Kind(of_images(cnn, shape=(32, 32, 3), channels=(8, 8), widths=(24,)), "photo_patches"),
    "vgg with batch norm": Kind(of_images(vgg, stages=((8,), (16, 16)), norm="batch")),
    "resnet with batch norm": Kind(of_images(resnet, width=8, blocks=(1, 1))),
    "resnet with layer norm": Kind(of_images(resnet, width=8, blocks=(1, 1), norm="layer")),
    "vit": Kind(of_images(vit, patch=2, dim=16, depth=1, heads=4, width=32)),
    "lstm": Kind(functools.partial(recurrent, 8, (16,), cell="lstm")),
}
EVIDENCE = ("weights", "activations")
CLUES = ("lead", "contrast", "company")
BEFORE = ("similarity", "margin", "mean similarity")
BINS = 10


@settings
class Config:
    """Calibrate chances."""

    preset: Literal["smoke", "default"] = "default"
    parents: Count = 2
    """of each architecture and weight decay."""
    age: Count = 3
    """stages before children part."""
    stages: tuple[Count, ...] = (1, 4, 16, 48)
    """after which children are matched."""
    epochs: Count = 2
    """of a stage; the optimiser starts each afresh."""
    learning_rate: Positive = 1e-2
    decay: tuple[Strength, ...] = (1e-2, 1.0)
    """of weights."""
    images: Count = 640
    """that networks learn from."""
    inputs: Count = 400
    """on which they are matched."""
    refinement: Count = 10
    """steps."""
    out: str = "runs"


class Units(NamedTuple):
    """The units of one group of a matched pair: which they are, what is seen of them, and which have the right partner.

    Attributes:
      clues: `[*batch, n]` each, those of CLUES and of BEFORE.
      right: `[*batch, n]`; of strangers which partners refinement with labels keeps.
    """

    architecture: str
    of: str
    method: str
    clues: dict[str, np.ndarray]
    right: np.ndarray


def children(config: Config, network: Network, sets: Data, decay: float) -> Iterator[tuple[int, PyTree, PyTree]]:
    """After each stage that counts: its number, first and second children, stacked; `sets` are `[2, m, ...]`."""
    recipe = zoo.Recipe(config.epochs, learning_rate=config.learning_rate, weight_decay=decay)
    train = jax.jit(jax.vmap(zoo.train_further(network, sets, recipe, signals=True)))
    count = config.parents
    keys = lambda stage: jax.random.split(jax.random.key(stage), 2 * count)
    # twins until they part: one program trains parents and children
    both = jax.vmap(network.init)(jnp.tile(jax.random.split(jax.random.key(0), count), 2))
    own = jnp.arange(2 * count)
    for stage in range(config.age):
        both = train(both, jnp.tile(keys(stage)[:count], 2), jnp.zeros_like(own))
    for stage in range(1, max(config.stages) + 1):
        both = train(both, keys(config.age + stage), jnp.where(own < count, 0, own % 2))
        if stage in config.stages:
            yield stage, *(jax.tree.map(lambda leaf, k=k: leaf[k * count :][:count], both) for k in range(2))


def choose_methods(network: Network, inputs: PyTree) -> tuple[Method, ...]:
    """By weights, by activations, and the aligner that ships."""
    aligner = load_aligner("any", network=network, inputs=inputs)
    return weight_matching, activation_matching_correlation, deep_align.using(aligner=aligner)


def is_right(spec: PermutationSpec, perms: Mapping[str, Any], hidden: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Which units `[*batch, n]` have the partner that was hidden; what lies in a wrong head is wrong."""
    found = {group: np.asarray(perm) for group, perm in compose(spec, perms, hidden).items()}
    right: dict[str, np.ndarray] = {}
    for group in (group for level in spec.levels for group in level):
        own = found[group] == np.arange(spec.sizes[group])
        for axis, outer in enumerate(spec.batch.get(group, ())):
            own &= np.expand_dims(right[outer], [k for k in range(own.ndim) if k != axis])
        right[group] = own
    return right


def units(
    config: Config, name: str, network: Network, sets: Data, seen: Data, *, strangers: bool
) -> tuple[list[Units], list[Units]]:
    """Those of children, and those of strangers if they are asked for."""
    spec, methods = network.spec, choose_methods(network, seen.inputs)
    unlabelled = Data(seen.inputs)

    def told(method: Method, a: PyTree, b: PyTree, perms: Any, right: Mapping[str, Any]) -> Iterator[Units]:
        for of, data in zip(EVIDENCE, (None, unlabelled), strict=True):
            found = jax.device_get(_look(network, a, b, perms, data))
            for group in spec.sizes:
                yield Units(name, of, method.name, found[group], right[group])

    related, strange = [], []
    for decay in config.decay:
        for stage, first, second in children(config, network, sets, decay):
            for k in range(config.parents):
                key = jax.random.key(stage * config.parents + k)
                a, b = take_networks(first, k), take_networks(second, k)
                hidden = random_perms(spec, key)
                other = permute(spec, b, hidden)
                for method in methods:
                    perms = method(network, a, other, key=key, data=unlabelled).perms
                    related += told(method, a, other, perms, is_right(spec, perms, hidden))
        # the oldest children of neighbours
        for k in range(0, config.parents - 1, 2) if strangers else ():
            a, b, key = take_networks(first, k), take_networks(second, k + 1), jax.random.key(k)
            method = activation_matching_correlation
            perms = method(network, a, b, key=key, data=unlabelled).perms
            better = chain(method, refine.using(steps=config.refinement))(network, a, b, key=key, data=seen).perms
            strange += told(method, a, b, perms, {g: np.asarray(perms[g]) == np.asarray(better[g]) for g in perms})
    return related, strange


@functools.partial(jax.jit, static_argnums=0)
def _look(network: Network, a: PyTree, b: PyTree, perms: Any, data: Data | None) -> dict[str, dict[str, jax.Array]]:
    """For each group all clues."""
    moved = permute(network.spec, b, perms)
    if data is None:
        alike = dict(unit_cosines(network.spec.with_kinds(), a, moved))
    else:
        alike = correlations(network, a, moved, data.inputs)
    return {group: clues(one) | _clues_before(one) for group, one in alike.items()}


def _clues_before(alike: jax.Array) -> dict[str, jax.Array]:
    """The similarity of partners, what it is ahead of others of b, and its mean in the group."""
    partner = jnp.diagonal(alike, axis1=-2, axis2=-1)
    others = jnp.where(np.eye(alike.shape[-1], dtype=bool), -1.0, alike).max(-1)
    company = jnp.broadcast_to(partner.mean(-1, keepdims=True), partner.shape)
    return dict(zip(BEFORE, (partner, partner - others, company), strict=True))


def fit(found: Sequence[Units], names: Sequence[str] = CLUES) -> dict[str, float]:
    """The most likely curve, every architecture of one weight; groups of one unit tell nothing."""
    from scipy.optimize import minimize
    from scipy.special import expit

    some = [one for one in found if one.right.shape[-1] > 1]
    design = np.concatenate([np.stack([one.clues[name].ravel() for name in names], -1) for one in some]).astype(float)
    prior = np.concatenate([np.full(one.right.size, np.log(one.right.shape[-1] - 1)) for one in some])
    sign = 2.0 * _right(some) - 1
    sizes = collections.Counter()
    for one in some:
        sizes[one.architecture] += one.right.size
    mean = sizes.total() / len(sizes)
    weight = np.concatenate([np.full(one.right.size, mean / sizes[one.architecture]) for one in some])

    def surprise(slopes):
        odds = sign * (design @ slopes - prior)
        # a whiff of a prior, so that a curve exists where all are right
        value = weight @ np.logaddexp(0, -odds) + 1e-3 * slopes @ slopes
        return value, 2e-3 * slopes - design.T @ (weight * sign * expit(-odds))

    found_slopes = minimize(surprise, np.zeros(len(names)), jac=True, method="BFGS").x
    return dict(zip(names, (round(float(slope), 5) for slope in found_slopes), strict=True))


def judge(
    found: Sequence[Units], numbers: Mapping[str, float], bend: Callable = lambda chance: chance
) -> dict[str, Any]:
    """How often partners were right, how often that was foreseen, and what lies between, over all units.

    Returns:
      `units`, `right`, `chance` (its mean), `error` (expected calibration error over BINS of one width), `brier`, and
      `bins` as `[units, mean chance, share that is right]`, those without units left out.
    """
    chance = bend(_chances(found, numbers))
    right = _right(found)
    place = np.minimum((chance * BINS).astype(int), BINS - 1)
    filled = [place == k for k in range(BINS) if (place == k).any()]
    bins = [[int(here.sum()), _mean(chance[here]), _mean(right[here])] for here in filled]
    error = sum(count * abs(mean - share) for count, mean, share in bins) / len(chance)
    return {
        "units": len(chance),
        "right": _mean(right),
        "chance": _mean(chance),
        "error": round(error, 4),
        "brier": _mean((chance - right) ** 2),
        "bins": bins,
    }


def _chances(found: Sequence[Units], numbers: Mapping[str, float]) -> np.ndarray:
    return np.concatenate([np.ravel(predict_chance(one.clues, numbers)) for one in found])


def _right(found: Sequence[Units]) -> np.ndarray:
    return np.concatenate([one.right.ravel() for one in found])


def _mean(values: np.ndarray) -> float:
    return round(float(np.mean(values)), 4)


def isotonic(found: Sequence[Units], numbers: Mapping[str, float]) -> Callable[[np.ndarray], np.ndarray]:
    """The best monotone correction of the chances of these units, on 20 bins."""
    from scipy.optimize import isotonic_regression

    chance, right = _chances(found, numbers), _right(found)
    parts = [part for part in np.array_split(np.argsort(chance, kind="stable"), 20) if len(part)]
    best = isotonic_regression([right[part].mean() for part in parts], weights=[len(part) for part in parts]).x
    middles = [chance[part].mean() for part in parts]
    return lambda values: np.interp(values, middles, best)


def looks(of: str, method: str) -> bool:
    """Whether curves from this evidence are fitted on this method."""
    return of == "weights" or method != weight_matching.name


def load_sets(kind: Kind, network: Network, config: Config) -> tuple[Data, Data, Data]:
    """Pictures to learn from, as they are and turned, `[2, m, ...]`; some of them to match on, and of the test set."""
    data, turned = zoo.load(kind.dataset), zoo.load(f"rotated_{kind.dataset}")

    def shaped(part: Data, most: int) -> Data:
        pictures = part.inputs[:most]
        light = kind.light * np.random.default_rng(0).normal(size=(len(pictures), 1, 1, 1)).astype(np.float32)
        return Data((pictures + light).reshape(-1, *network.example.shape[1:]), part.labels[:most].astype(np.int32))

    sets = jax.tree.map(lambda *both: np.stack(both), *(shaped(one.train, config.images) for one in (data, turned)))
    return sets, *(jax.tree.map(jnp.asarray, shaped(part, config.inputs)) for part in (data.train, data.test))


def by_architecture(seen: Sequence[Units], unseen: Sequence[Units]) -> Iterator[dict[str, Any]]:
    """Each architecture, judged by curves that were fitted on others: one that is seen on all others of them."""
    for label, found in (("seen", seen), ("unseen", unseen)):
        for name in dict.fromkeys(one.architecture for one in found):
            some = [one for one in found if one.architecture == name]
            rest = [one for one in seen if one.architecture != name]
            if rest:
                judged, before = (judge(some, fit(rest, names)) for names in (CLUES, BEFORE))
                yield {"architecture": name, "architectures": label, "before": before["error"]} | judged


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    folder = report.open_run(Path(config.out) / "how_sure", settings)
    chosen = {"seen": FIT, "unseen": TEST}
    if config.preset == "smoke":
        chosen = {"seen": {"mlp 32": FIT["mlp 32"]}, "unseen": {"mlp 48-96": TEST["mlp 48-96"]}}
    related: dict[str, list[Units]] = {label: [] for label in chosen}
    strange: list[Units] = []
    with tqdm(total=sum(map(len, chosen.values())), unit="architecture") as bar:
        for label, kinds in chosen.items():
            for name, kind in kinds.items():
                network = kind.make()
                sets, train, test = load_sets(kind, network, config)
                unseen = label == "unseen"
                near, far = units(config, name, network, sets, test if unseen else train, strangers=unseen)
                related[label] += near
                strange += far
                bar.update()
    only = lambda found, of: [one for one in found if one.of == of]
    fitting = lambda label, of: [one for one in only(related[label], of) if looks(of, one.method)]
    numbers, before = ({of: fit(fitting("seen", of), names) for of in EVIDENCE} for names in (CLUES, BEFORE))
    report.write_json(folder / "confidence.json", numbers)
    rows = []
    for of, curve in numbers.items():
        for label in chosen:
            found = only(related[label], of)
            for method in dict.fromkeys(one.method for one in found):
                some = [one for one in found if one.method == method]
                about = {"of": of, "method": method, "architectures": label, "fitted": looks(of, method)}
                rows.append(about | {"before": judge(some, before[of])["error"]} | judge(some, curve))
    results = {
        "experiment": "how_sure",
        "config": settings,
        "environment": report.environment(),
        "numbers": numbers,
        "reliability": rows,
        "architectures": [
            {"of": of} | row for of in EVIDENCE for row in by_architecture(fitting("seen", of), fitting("unseen", of))
        ],
        "isotonic": {
            of: judge(fitting("unseen", of), curve, isotonic(fitting("seen", of), curve))
            for of, curve in numbers.items()
        },
        "whole": {of: judge(fitting("unseen", of), curve) for of, curve in numbers.items()},
        "before": {of: judge(fitting("unseen", of), curve) for of, curve in before.items()},
        "strangers": {of: judge(only(strange, of), curve) for of, curve in numbers.items()},
    }
    report.write_json(folder / "results.json", results)
    report.chance_figure(results, folder / "reliability.png")
    print(report.chance_table(results))
    return results


def read_config(args: Sequence[str]) -> Config:
    """Command line to config."""
    first, _ = tyro.cli(Config, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    smoke: dict[str, Any] = dict(age=1, stages=(1, 4), decay=(1.0,), refinement=2) if first.preset == "smoke" else {}
    return tyro.cli(Config, args=args, default=Config(**smoke, preset=first.preset), description=__doc__)


if __name__ == "__main__":
    study.run(main, read_config)
