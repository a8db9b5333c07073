"""What do signs and scales add to permutations?

    python experiments/kinds.py                  eight minutes on 2 CPU cores
    python experiments/kinds.py --preset smoke   a few small networks

Disjoint pairs of networks, each from a seed of its own, matched on the spec of the order of units alone and on that of
all kinds (`infer_spec(..., kinds="all")`). ReLU networks without normalisation have scales: factors that make in- and
outgoing norm of every unit equal may serve the matching, the average, or both. Networks of odd functions have signs,
which `fix_signs` can also bring to one form beforehand. Judged half way between the two, on the full test set or on
their signal. For the scales also: how far are units and layers from equal norms, which of the two does a matching
notice, and how far do factors lead that are learned from labels, where the order of units stays as it is?
Writes runs/kinds/: config.json, results.json, factors.json, kinds.png.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import study
import train_inr
import tyro

from dwalign import report, zoo
from dwalign.evaluation import curve
from dwalign.matching import (
    Method,
    activation_matching_correlation,
    chain,
    naive,
    refine,
    weight_matching,
)
from dwalign.networks import build, fix_signs, from_module, siren
from dwalign.program import CLASSIFICATION, REGRESSION, Data, Network, Task, certify, infer_spec, take_examples
from dwalign.symmetry import (
    Monomial,
    PermutationSpec,
    compose,
    gauge,
    identity,
    interpolate,
    inverse,
    order_of,
    permute,
    take_networks,
)

PyTree = Any
Elements = dict[str, Any]
ORDER, MATCHED, AVERAGED, ALL, FIXED = (
    "order of units",
    "scales for the matching",
    "scales for the average",
    "all kinds",
    "order, after fix_signs",
)
LAYERS, LEARNED = "scales of layers", "scales learned from labels"
REFINED = (chain(weight_matching, refine), chain(activation_matching_correlation, refine))


class Tanh(nn.Module):
    """Dense layers with tanh between."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            x = nn.tanh(nn.Dense(width, name=f"dense_{k}")(x))
        return nn.Dense(10, name=f"dense_{len(self.widths)}")(x)


class Rows(nn.Module):
    """The last state of a cell that has read a picture row by row, then a dense layer."""

    cell: Callable[[int], nn.RNNCellBase]
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(self.cell(self.width))(x[..., 0])[:, -1])


class Case(NamedTuple):
    """Attributes:
    network: makes it.
    recipe: how its networks are trained.
    pairs: so many.
    methods: with which they are matched.
    signals: the network represents sine waves; those of a pair the same one.
    fixable: `fix_signs` knows it.
    """

    network: Callable[[], Network]
    recipe: zoo.Recipe
    pairs: int
    methods: tuple[Method, ...]
    signals: bool = False
    fixable: bool = False


SCALES = (naive, weight_matching, activation_matching_correlation, *REFINED)
SIGNS = (naive, weight_matching, REFINED[0])
PICTURES: dict[str, Any] = dict(shape=[8, 8, 1], outputs=10)
of_digits = lambda module: from_module(module, jnp.zeros((2, 8, 8, 1)), {})
mlp = lambda: build(dict(kind="mlp", inputs=64, widths=[32, 32, 32], outputs=10))
CASES: dict[str, Case] = {
    "MLP": Case(mlp, zoo.Recipe(), 24, SCALES),
    "CNN": Case(
        lambda: build(PICTURES | dict(kind="cnn", channels=[16, 32], widths=[64])), zoo.Recipe(epochs=20), 8, SCALES
    ),
    "VGG": Case(
        lambda: build(PICTURES | dict(kind="vgg", stages=[[16, 16], [32, 32]], widths=[32])),
        zoo.Recipe(epochs=20),
        8,
        SCALES,
    ),
    "tanh MLP": Case(lambda: of_digits(Tanh((32, 32, 32))), zoo.Recipe(), 24, SIGNS, fixable=True),
    "tanh RNN": Case(lambda: of_digits(Rows(nn.SimpleCell, 32)), zoo.Recipe(), 12, SIGNS),
    "GRU": Case(lambda: of_digits(Rows(nn.GRUCell, 32)), zoo.Recipe(), 12, SIGNS),
    "SIREN": Case(
        lambda: siren(1, (64, 64, 64), 1, 8.0), train_inr.Config().recipe, 24, SIGNS, signals=True, fixable=True
    ),
}
# of which factors are looked at more closely
RECIPES: dict[str, tuple[str, zoo.Recipe]] = {
    "MLP": ("MLP", zoo.Recipe()),
    "MLP, learning rate x 5": ("MLP", zoo.Recipe(learning_rate=1e-2)),
    "MLP, no weight decay": ("MLP", zoo.Recipe(weight_decay=0.0)),
    "MLP, weight decay 0.3": ("MLP", zoo.Recipe(weight_decay=0.3)),
    "MLP, 200 epochs": ("MLP", zoo.Recipe(epochs=200)),
    "CNN": ("CNN", CASES["CNN"].recipe),
    "VGG": ("VGG", CASES["VGG"].recipe),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Match networks in all kinds."""

    preset: Literal["smoke", "default"] = "default"
    """smoke: two pairs of networks that are hardly trained."""
    out: str = "runs"
    cases: tuple[str, ...] = tuple(CASES)
    """of CASES."""
    recipes: tuple[str, ...] = tuple(RECIPES)
    """of RECIPES."""
    images: int = 512
    """training images that methods see."""
    steps: int = 100
    """in which factors are learned."""


class Pair(NamedTuple):
    """Attributes:
    a, b: two networks.
    seen: data that methods get.
    test: what the networks between them are judged on.
    key: for methods.
    """

    a: PyTree
    b: PyTree
    seen: Data
    test: Data
    key: jax.Array


class Subject(NamedTuple):
    """Attributes:
    network: with the order of units alone.
    full: the same with all kinds.
    task: what it is for.
    pairs: that were trained.
    """

    network: Network
    full: Network
    task: Task
    pairs: list[Pair]


def prepare(config: Config, case: Case) -> Subject:
    """Train the pairs of a case and read both specs off its program."""
    small = config.preset == "smoke"
    count = 2 if small else case.pairs
    recipe = dataclasses.replace(case.recipe, epochs=2) if small else case.recipe
    network, seeds = case.network(), 500 + jnp.arange(2 * count)
    if case.signals:
        task, data = REGRESSION, train_inr.make_signals(train_inr.Config(), 0, count)
        nets = zoo.train_networks(network, data, recipe, task, signals=True)(seeds, jnp.arange(2 * count) // 2)
        inputs = data.inputs[0]
        shown = [(one, one) for one in (take_examples(data, k) for k in range(count))]
    else:
        task, digits = CLASSIFICATION, zoo.load("digits")
        nets = zoo.train_networks(network, digits.train, recipe)(seeds)
        inputs = digits.train.inputs
        shown = [study.to_device((take_examples(digits.train, slice(config.images)), digits.test))] * count
    nets = jax.tree.map(np.asarray, nets)
    of = lambda k: take_networks(nets, k)
    pairs = [Pair(of(2 * k), of(2 * k + 1), *shown[k], jax.random.key(k)) for k in range(count)]
    return Subject(network, with_all_kinds(network, pairs[0].a, inputs[:2]), task, pairs)


def with_all_kinds(network: Network, params: PyTree, inputs: jax.Array) -> Network:
    """The same network; what its spec says is tried on numbers."""
    spec = infer_spec(network.apply, params, inputs, kinds="all")
    certify(spec, network.apply, params, inputs)
    return dataclasses.replace(network, spec=spec)


def found_by(method: Method, subject: Subject, pair: Pair) -> dict[str, Elements]:
    """What a method finds, with scales in every place where they may serve."""
    spec = subject.full.spec
    of = lambda network: method(network, pair.a, pair.b, key=pair.key, data=pair.seen, task=subject.task).perms
    order, all_ = of(subject.network), of(subject.full)
    if "scale" not in spec.kinds.values():
        return {ORDER: order, ALL: all_}
    ways = gauge(spec, pair.a), gauge(spec, pair.b)
    return {
        ORDER: order,
        MATCHED: {g: order_of(element) for g, element in all_.items()},
        AVERAGED: between(spec, ways, order),
        ALL: all_,
    }


def between(spec: PermutationSpec, ways: tuple[Elements, Elements], found: Elements) -> Elements:
    """What was found between two networks that have been moved, as an element between these as they are."""
    one, two = ways
    return compose(spec, inverse(spec, one), compose(spec, found, two))


def make_judge(subject: Subject) -> Callable[..., tuple[float, float]]:
    """`judge(pair, element)`: barrier and accuracy half way."""
    spec, task = subject.full.spec, subject.task
    half_way = jax.jit(lambda a, b, test: curve(subject.network, a, b, test, task=task, points=3))

    def judge(pair: Pair, element: Elements) -> tuple[float, float]:
        found = half_way(pair.a, permute(spec, pair.b, element), pair.test)
        return float(found.barrier), float(found.midpoint_accuracy)

    return judge


def compare(config: Config, case: Case) -> dict[str, dict[str, np.ndarray]]:
    """Method to what serves it to barriers and accuracies, `[pairs, 2]`."""
    subject = prepare(config, case)
    judge = make_judge(subject)
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for pair in subject.pairs:
        fixed = pair._replace(a=fix_signs(pair.a), b=fix_signs(pair.b)) if case.fixable else None
        for method in case.methods:
            judged = {name: judge(pair, one) for name, one in found_by(method, subject, pair).items()}
            if fixed:
                judged[FIXED] = judge(fixed, found_by(method, subject, fixed)[ORDER])
            for name, values in judged.items():
                found.setdefault(method.label, {}).setdefault(name, []).append(values)
    return {method: {name: np.array(values) for name, values in of.items()} for method, of in found.items()}


def ratio(values: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """That of two means over the same pairs; its interval is that of the pairs' distances from it."""
    whole = values.mean() / base.mean()
    return report.point([whole + (values - whole * base) / base.mean()])


def compared(found: dict[str, dict[str, dict[str, np.ndarray]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Panel to series to setting to figure."""
    panels: dict[str, dict[str, dict[str, Any]]] = {}

    def note(panel: str, series: str, setting: str, point: dict[str, Any]) -> None:
        panels.setdefault(panel, {}).setdefault(series, {})[setting] = point

    for case, methods in found.items():
        start = methods[naive.label][ORDER][:, 0]
        for method, of in methods.items():
            base, setting = of[ORDER][:, 0], f"{case}, {method}"
            note("barrier", ORDER, setting, report.point([base]))
            for name in (ORDER, ALL):
                note("barrier, x naive", name, setting, ratio(of[name][:, 0], start))
            for name in (MATCHED, AVERAGED, ALL, FIXED):
                if name in of:
                    note("barrier, x order of units", name, setting, ratio(of[name][:, 0], base))
            for name in (ORDER, ALL):
                note("midpoint accuracy", name, setting, report.point([of[name][:, 1]]))
    return panels


def of_layers(element: Elements) -> Elements:
    """The same with the mean factor of each group for all of its units."""

    def one(monomial):
        logarithm = np.log(monomial.scale)
        return monomial._replace(scale=np.exp(np.broadcast_to(logarithm.mean(0), logarithm.shape)))

    return {g: one(monomial) for g, monomial in element.items()}


def learn_scales(subject: Subject, pair: Pair, perms: Elements, steps: int) -> Elements:
    """Lower the loss half way by factors alone."""
    spec, network = subject.full.spec, subject.network
    lost = lambda params: subject.task.lost(network.respond(params, pair.seen.inputs), pair.seen.labels)

    @jax.jit
    def learn(a, b):
        optimizer = optax.adam(0.03)
        orders = identity(spec)
        with_factors = lambda logs: {g: Monomial(orders[g], jnp.exp(one)) for g, one in logs.items()}
        loss = lambda logs: lost(interpolate(spec, a, permute(spec, b, with_factors(logs))))

        def step(state, _):
            logs, memory = state
            updates, memory = optimizer.update(jax.grad(loss)(logs), memory)
            return (optax.apply_updates(logs, updates), memory), None

        logs = {g: jnp.zeros((n, *spec.directions[g][:1])) for g, n in spec.sizes.items()}
        return with_factors(jax.lax.scan(step, (logs, optimizer.init(logs)), length=steps)[0][0])

    return compose(spec, learn(pair.a, permute(spec, pair.b, perms)), perms)


def look_closer(config: Config, recipe: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Panel to series to figure: how far from equal norms, and of weight matching what the factors are worth."""
    case, trained = RECIPES[recipe]
    subject = prepare(config, CASES[case]._replace(recipe=trained))
    spec, judge = subject.full.spec, make_judge(subject)
    units, layers = [], []
    barriers: dict[str, list[float]] = {}
    for pair in subject.pairs:
        whole = gauge(spec, pair.a), gauge(spec, pair.b)
        logs = [np.log(way[g].scale) for way in whole for g in spec.sizes]
        units.append(np.mean([one.std() for one in logs]))
        layers.append(np.mean([abs(one.mean()) for one in logs]))
        weights = lambda a, b, pair=pair: weight_matching(spec.with_kinds("permutation"), a, b, key=pair.key).perms
        moved = lambda ways, pair=pair: (permute(spec, x, way) for x, way in zip(pair[:2], ways, strict=True))
        order, by_layer = weights(pair.a, pair.b), (of_layers(whole[0]), of_layers(whole[1]))
        found = {
            ORDER: order,
            LAYERS: between(spec, by_layer, weights(*moved(by_layer))),
            ALL: between(spec, whole, weights(*moved(whole))),
            LEARNED: learn_scales(subject, pair, order, config.steps),
        }
        for name, element in found.items():
            barriers.setdefault(name, []).append(judge(pair, element)[0])
    base = np.array(barriers.pop(ORDER))
    return {
        "how far from equal norms": {"units in a layer": report.point([units]), "layers": report.point([layers])},
        "barrier, x order of units": {name: ratio(np.array(values), base) for name, values in barriers.items()},
    }


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    folder = report.open_run(Path(config.out) / "kinds", settings)
    about = {"config": settings, "environment": report.environment()}

    closer: dict[str, dict[str, dict[str, Any]]] = {}
    for recipe in config.recipes:
        for panel, series in look_closer(config, recipe).items():
            for name, point in series.items():
                closer.setdefault(panel, {}).setdefault(name, {})[recipe] = point
        print(f"{recipe}: looked at", flush=True)
    factors = {
        "experiment": "kinds-factors",
        "question": "How far are ReLU networks from equal norms, and what is it worth to a matching by weights?",
        **about,
        "axis": "networks",
        "settings": list(config.recipes),
        "panels": closer,
        "caption": "kinds-factors: logarithms of the factors that make norms equal, their standard deviation over the "
        "units of a layer and the size of their mean; means and 95 % intervals over pairs.",
    }
    found = {}
    for case in config.cases:
        found[case] = compare(config, CASES[case])
        print(f"{case}: compared", flush=True)
    results = {
        "experiment": "kinds",
        "question": "What do signs and scales add to permutations?",
        **about,
        "axis": "networks and method",
        "settings": [f"{case}, {method}" for case, methods in found.items() for method in methods],
        "panels": compared(found),
        "caption": "kinds: half way between two networks, full test set; means and 95 % intervals over "
        + ", ".join(f"{len(next(iter(of.values()))[ORDER])} pairs of {case}" for case, of in found.items())
        + ". Ratios are those of means.",
    }
    for name, one in {"factors": factors, "results": results}.items():
        report.write_whole(folder / f"{name}.json", json.dumps(one, indent=1) + "\n")
    shown = {title: results["panels"][title] for title in ("barrier, x order of units", "midpoint accuracy")}
    report.series_figure(results | {"panels": shown}, folder / "kinds.png")
    print(report.series_table(factors), report.series_table(results), sep="\n\n")
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
