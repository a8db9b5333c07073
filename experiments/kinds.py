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
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import study
import tyro
from paired.cases import CASES, RECIPES
from paired.pairs import Elements, Pair, Subject, between, make_judge, prepare, ratio
from paired.scales import look_closer

from dwalign import report
from dwalign.bounds import Count, one_of, settings
from dwalign.matching import Method, naive
from dwalign.networks import fix_signs
from dwalign.symmetry import gauge, order_of

ORDER, ALL, FIXED = "order of units", "all kinds", "order, after fix_signs"
MATCHED, AVERAGED = "scales for the matching", "scales for the average"


@settings
class Config:
    """Match networks in all kinds."""

    preset: Literal["smoke", "default"] = "default"
    """smoke: two pairs of networks that are hardly trained."""
    out: str = "runs"
    cases: tuple[Annotated[str, one_of(CASES)], ...] = tuple(CASES)
    """of CASES."""
    recipes: tuple[Annotated[str, one_of(RECIPES)], ...] = tuple(RECIPES)
    """of RECIPES."""
    images: Count = 512
    """training images that methods see."""
    steps: Count = 100
    """in which factors are learned."""


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


def compare(subject: Subject) -> dict[str, dict[str, np.ndarray]]:
    """Method to what serves it to barriers and accuracies, `[pairs, 2]`."""
    case, judge = subject.case, make_judge(subject)
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


def main(config: Config) -> dict[str, Any]:
    """Run the experiment; returns what results.json holds."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key != "out"}
    folder = report.open_run(Path(config.out) / "kinds", settings)
    about = {"config": settings, "environment": report.environment()}

    small = config.preset == "smoke"
    closer: dict[str, dict[str, dict[str, Any]]] = {}
    for recipe in config.recipes:
        case, trained = RECIPES[recipe]
        subject = prepare(CASES[case]._replace(recipe=trained), config.images, small=small)
        for panel, series in look_closer(subject, config.steps).items():
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
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for case in config.cases:
        found[case] = compare(prepare(CASES[case], config.images, small=small))
        print(f"{case}: compared", flush=True)
    panels = compared(found)
    results = {
        "experiment": "kinds",
        "question": "What do signs and scales add to permutations?",
        **about,
        "axis": "networks and method",
        "settings": [f"{case}, {method}" for case, methods in found.items() for method in methods],
        "panels": panels,
        "caption": "kinds: half way between two networks, full test set; means and 95 % intervals over "
        + ", ".join(f"{len(next(iter(of.values()))[ORDER])} pairs of {case}" for case, of in found.items())
        + ". Ratios are those of means.",
    }
    for name, one in {"factors": factors, "results": results}.items():
        report.write_json(folder / f"{name}.json", one)
    # a colour means the same in both panels
    shown = {
        title: {name: panels[title].get(name, {}) for name in (ORDER, MATCHED, AVERAGED, ALL, FIXED)}
        for title in ("barrier, x order of units", "midpoint accuracy")
    }
    report.series_figure(results | {"panels": shown}, folder / "kinds.png")
    print(report.series_table(factors), report.series_table(results), sep="\n\n")
    return results


if __name__ == "__main__":
    study.run(main, lambda args: tyro.cli(Config, args=args, description=__doc__))
