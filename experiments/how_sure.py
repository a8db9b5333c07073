"""How sure is a matching? How often partners are the right ones, on architectures that the answer has never seen.

    python experiments/how_sure.py                  about ten minutes on one CPU core
    python experiments/how_sure.py --preset smoke   a check in a minute

Of each architecture parents are trained, and two children go on from every one: in other orders of the data, half of
the second children on turned pictures, with little and with so much weight decay that in the end hardly a unit can be
told. One child is relabelled, the two are matched, and right is the partner that came from the same unit of the parent.
Logistic curves are fitted on the architectures of FIT and judged on those of TEST, matched on the test images.

From weights they are fitted on all methods, from activations on those that look at inputs. Children of two parents are
strangers without right partners: of these it says what chance they get, and how often refinement with labels keeps a
partner.
Writes runs/how_sure/: config.json, results.json, confidence.json (what dwalign/evaluation holds), reliability.png.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import study
import tyro
from tqdm import tqdm
from will_it_merge import IMAGES

from dwalign import report, zoo
from dwalign.bounds import Count, Positive, Strength, settings
from dwalign.deepalign import deep_align, load_aligner
from dwalign.evaluation import confidence, predict_chance
from dwalign.matching import Method, activation_matching_correlation, chain, refine, weight_matching
from dwalign.networks import build
from dwalign.program import Data, Network
from dwalign.symmetry import PermutationSpec, compose, permute, random_perms, take_networks

PyTree = Any
FIT: dict[str, dict[str, Any]] = {
    **{
        f"mlp {'-'.join(map(str, widths))}": dict(kind="mlp", inputs=64, widths=widths, outputs=10)
        for widths in ([32], [64, 64], [128, 128], [24, 24, 24, 24])
    },
    "cnn 8-16": IMAGES | dict(kind="cnn", channels=[8, 16], widths=[32]),
    "vgg": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[]),
    "mixer": IMAGES | dict(kind="mixer", patch=2, dim=16, depth=1, tokens=16, width=32),
    "gru": dict(kind="recurrent", inputs=8, widths=[24], outputs=10, time=8),
}
TEST: dict[str, dict[str, Any]] = {
    "mlp 48-96": dict(kind="mlp", inputs=64, widths=[48, 96], outputs=10),
    "mlp of five layers": dict(kind="mlp", inputs=64, widths=[32] * 5, outputs=10),
    "mlp 64-64 on photo_patches": dict(kind="mlp", inputs=3072, widths=[64, 64], outputs=10),
    "vgg with batch norm": IMAGES | dict(kind="vgg", stages=[[8], [16, 16]], widths=[], norm="batch"),
}
EVIDENCE = ("weights", "activations")
TRAITS = ("similarity", "margin", "company")
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
      right: `[*batch, n]`; of strangers which partners refinement with labels keeps.
    """

    architecture: str
    of: str
    method: str
    similarity: np.ndarray
    margin: np.ndarray
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
                yield Units(name, of, method.name, found.similarity[group], found.margin[group], right[group])

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
def _look(network: Network, a: PyTree, b: PyTree, perms: Any, data: Data | None) -> Any:
    return confidence(network, a, b, perms, data=data)


def fit(found: Sequence[Units]) -> dict[str, float]:
    """The most likely curve; groups of one unit tell nothing."""
    from scipy.optimize import minimize
    from scipy.special import expit

    some = [one for one in found if one.right.shape[-1] > 1]
    design = np.concatenate([np.stack(list(map(np.ravel, _traits(one))), -1) for one in some]).astype(float)
    prior = np.concatenate([np.full(one.right.size, np.log(one.right.shape[-1] - 1)) for one in some])
    sign = 2.0 * _right(some) - 1

    def surprise(slopes):
        odds = sign * (design @ slopes - prior)
        # a whiff of a prior, so that a curve exists where all are right
        return np.logaddexp(0, -odds).sum() + 1e-3 * slopes @ slopes, 2e-3 * slopes - design.T @ (sign * expit(-odds))

    found_slopes = minimize(surprise, np.zeros(len(TRAITS)), jac=True, method="BFGS").x
    return dict(zip(TRAITS, (round(float(slope), 5) for slope in found_slopes), strict=True))


def _traits(one: Units) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    company = one.similarity.mean(-1, keepdims=True)
    return one.similarity, one.margin, np.broadcast_to(company, one.margin.shape)


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
    return np.concatenate([np.ravel(predict_chance(one.similarity, one.margin, numbers)) for one in found])


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


def load_sets(name: str, network: Network, config: Config) -> tuple[Data, Data, Data]:
    """Pictures to learn from, as they are and turned, `[2, m, ...]`; some of them to match on, and of the test set."""
    plain = "photo_patches" if "photo_patches" in name else "digits"
    data, turned = zoo.load(plain), zoo.load(f"rotated_{plain}")
    shaped = lambda part, most: Data(
        part.inputs[:most].reshape(-1, *network.example.shape[1:]), part.labels[:most].astype(np.int32)
    )
    sets = jax.tree.map(lambda *both: np.stack(both), *(shaped(one.train, config.images) for one in (data, turned)))
    return sets, *(jax.tree.map(jnp.asarray, shaped(part, config.inputs)) for part in (data.train, data.test))


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
                network = build(kind)
                sets, train, test = load_sets(name, network, config)
                unseen = label == "unseen"
                near, far = units(config, name, network, sets, test if unseen else train, strangers=unseen)
                related[label] += near
                strange += far
                bar.update()
    only = lambda found, of: [one for one in found if one.of == of]
    fitting = lambda label, of: [one for one in only(related[label], of) if looks(of, one.method)]
    numbers = {of: fit(fitting("seen", of)) for of in EVIDENCE}
    report.write_json(folder / "confidence.json", numbers)
    rows, architectures = [], []
    for of, curve in numbers.items():
        for label in chosen:
            found = only(related[label], of)
            for method in dict.fromkeys(one.method for one in found):
                some = [one for one in found if one.method == method]
                about = {"of": of, "method": method, "architectures": label, "fitted": looks(of, method)}
                rows.append(about | judge(some, curve))
        for name in chosen["unseen"]:
            some = [one for one in fitting("unseen", of) if one.architecture == name]
            architectures.append({"of": of, "architecture": name} | judge(some, curve))
    results = {
        "experiment": "how_sure",
        "config": settings,
        "environment": report.environment(),
        "numbers": numbers,
        "reliability": rows,
        "architectures": architectures,
        "isotonic": {
            of: judge(fitting("unseen", of), curve, isotonic(fitting("seen", of), curve))
            for of, curve in numbers.items()
        },
        "whole": {of: judge(fitting("unseen", of), curve) for of, curve in numbers.items()},
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
