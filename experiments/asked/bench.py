"""Digits, a zoo of MLPs, and the pieces that the questions are made of."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import study

from dwalign import deepalign, report, zoo

PyTree = Any
Panels = dict[str, dict[str, dict[str, Any]]]
# the name of the axis, the settings along it, and what was found: `{panel: {series: {setting: point}}}`
Answer = tuple[str, list[Any], Panels]
BASELINES = ("weight_matching", "activation_matching_correlation")


@dataclasses.dataclass(frozen=True)
class Config(study.Options):
    """Answer one question."""

    question: Literal[
        "zoo_size",
        "losses",
        "augmentation",
        "transfer",
        "sizes",
        "encoders",
        "refinement",
        "descent",
        "pay_off",
        "equivariance",
    ] = "zoo_size"
    widths: tuple[int, ...] = (32, 32, 32)
    zoo_sizes: tuple[int, ...] = (30, 100, 300, 1000, 3000)
    minutes: float = 3.0
    """of training for each encoder (encoders)."""
    encoder: Literal["dws", "graph", "probe"] = "graph"
    steps: int = 400
    sinkhorn_iterations: int = 1000


class Bench(NamedTuple):
    """What all questions share: digits, a zoo of MLPs, a folder for aligners."""

    config: Config
    folder: Path
    data: zoo.Dataset
    nets: zoo.Zoo

    @property
    def train(self) -> study.Data:
        return study.to_device(self.data.train)

    @property
    def test(self) -> study.Data:
        return study.to_device(self.data.test)

    @property
    def few(self) -> study.Data:
        return tuple(leaf[: self.config.refine_images] for leaf in self.train)


def describe_network(widths: Sequence[int]) -> dict[str, Any]:
    """An MLP for digits."""
    return {"kind": "mlp", "inputs": 64, "widths": list(widths), "outputs": 10}


def train(bench: Bench, label: str, nets: zoo.Zoo | None = None, task=study.CLASSIFICATION, **changes: Any):
    """The aligners of `config.seeds` seeds; `changes` of options, and `model`."""
    model = changes.pop("model", None)
    options = dataclasses.replace(bench.config, **changes)
    nets = bench.nets if nets is None else nets
    trained = study.train_aligners(
        options,
        nets,
        bench.train,
        bench.few,
        study.to_device(bench.data.validation),
        bench.folder / label,
        task,
        model=model,
    )
    return [one.aligner for one in trained]


def untrained(bench: Bench, **changes: Any) -> list[deepalign.Aligner]:
    """Aligners of `config.seeds` seeds as they are before training."""
    shape = study.aligner_shape(dataclasses.replace(bench.config, **changes))
    model, example = deepalign.make_model(bench.nets.network, shape, bench.train[0]), zoo.take(bench.nets.train, 0)
    states = [deepalign.init_state(model, deepalign.Optimisation(), example, k) for k in range(bench.config.seeds)]
    return [deepalign.Aligner(model, state.variables) for state in states]


def barriers(bench: Bench, nets: zoo.Zoo, methods: Mapping[str, Iterable[study.Method]]) -> dict[str, dict[str, Any]]:
    """For each name the point of the barriers on the test pairs, over one method a seed."""
    columns = [dict(zip(methods, column, strict=False)) for column in zip(*methods.values(), strict=True)]
    measured = study.judge(bench.config, nets, bench.few, bench.test, {}, columns)
    return {name: report.point([run.curve.barrier for run in runs]) for name, runs in measured.items()}


def predict(nets: zoo.Zoo, aligners: Sequence[deepalign.Aligner]) -> list[study.Method]:
    """The forward passes of aligners."""
    return [partial(deepalign.deep_align, nets.network.spec, aligner=aligner) for aligner in aligners]


def baseline_barriers(bench: Bench, nets: zoo.Zoo, names: Sequence[str] = BASELINES) -> dict[str, dict[str, Any]]:
    """Points of methods that need no aligner."""
    methods = study.baselines(bench.config, nets.network, bench.train, bench.few)
    found = barriers(bench, nets, {name: [methods[name]] for name in names})
    return {report.display_name(name): value for name, value in found.items()}


def with_training(nets: zoo.Zoo, networks: PyTree) -> zoo.Zoo:
    """The zoo with other training networks."""
    return nets._replace(train=networks)


def across(settings: Sequence[Any], found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Points by setting and name to points by name and setting."""
    return {name: {str(setting): one[name] for setting, one in zip(settings, found, strict=True)} for name in found[0]}
