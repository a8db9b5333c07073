"""Digits, a zoo of MLPs, and the pieces that the questions are made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import study

from dwalign import deepalign, report, zoo
from dwalign.bounds import Count, Positive, Several, settings
from dwalign.matching import Method, activation_matching_correlation, weight_matching
from dwalign.networks import mlp
from dwalign.program import Data, Network, take_examples
from dwalign.symmetry import take_networks

PyTree = Any
Panels = dict[str, dict[str, dict[str, Any]]]
# the name of the axis, the settings along it, and what was found: `{panel: {series: {setting: point}}}`
Answer = tuple[str, list[Any], Panels]
BASELINES = (weight_matching, activation_matching_correlation)


@settings
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
    widths: tuple[Count, ...] = (32, 32, 32)
    zoo_sizes: tuple[Several, ...] = (30, 100, 300, 1000, 3000)
    minutes: Positive = 3.0
    """of training for each encoder (encoders)."""
    aligner: deepalign.AlignerConfig = deepalign.AlignerConfig(encoder="graph")
    training: deepalign.Optimisation = deepalign.Optimisation(steps=400)


class Bench(NamedTuple):
    """What all questions share: digits, a zoo of MLPs, a folder for aligners."""

    config: Config
    folder: Path
    data: zoo.Dataset
    nets: zoo.Zoo

    @property
    def train(self) -> Data:
        return study.to_device(self.data.train)

    @property
    def few(self) -> Data:
        return take_examples(self.train, slice(self.config.refine_images))

    def changed(self, changes: study.Changes) -> "Bench":
        """With other options."""
        return self._replace(config=study.change(self.config, changes))


def make_network(widths: Sequence[int]) -> Network:
    """An MLP for digits."""
    return mlp(64, widths, 10)


def train(
    bench: Bench,
    label: str,
    changes: study.Changes,
    *,
    nets: zoo.Zoo | None = None,
    model: deepalign.DeepAlign | None = None,
) -> list[deepalign.Aligner]:
    """The aligners of `config.seeds` seeds, with `changes` of options."""
    trained = study.train_aligners(
        study.change(bench.config, changes),
        bench.nets if nets is None else nets,
        bench.train,
        bench.few,
        study.to_device(bench.data.validation),
        bench.folder / label,
        model=model,
    )
    return [one.aligner for one in trained]


def untrained(bench: Bench, changes: study.Changes) -> list[deepalign.Aligner]:
    """Aligners of `config.seeds` seeds as they are before training."""
    config = study.change(bench.config, changes)
    model = deepalign.make_model(bench.nets.network, config.aligner, bench.train.inputs)
    example = take_networks(bench.nets.train, 0)
    states = [deepalign.init_state(model, config.training, example, seed) for seed in range(config.seeds)]
    return [deepalign.Aligner(model, state.variables) for state in states]


def barriers(bench: Bench, nets: zoo.Zoo, methods: Mapping[str, Sequence[Method]]) -> dict[str, dict[str, Any]]:
    """For each name the point of the barriers on the test pairs, over one method a seed."""
    test, train = study.to_device(bench.data.test), bench.train
    found = {}
    for name, by_seed in methods.items():
        (runs,) = study.judge(bench.config, nets, [], [[method] for method in by_seed], test, train).values()
        found[name] = report.point([run.curve.barrier for run in runs])
    return found


def predict(aligners: Sequence[deepalign.Aligner]) -> list[Method]:
    """The forward passes of aligners."""
    return [deepalign.deep_align.using(aligner=aligner) for aligner in aligners]


def baseline_barriers(bench: Bench, nets: zoo.Zoo, methods: Sequence[Method] = BASELINES) -> dict[str, dict[str, Any]]:
    """Points of methods that need no aligner."""
    return barriers(bench, nets, {method.label: [method] for method in methods})


def with_training(nets: zoo.Zoo, networks: PyTree) -> zoo.Zoo:
    """The zoo with other training networks."""
    return nets._replace(train=networks)


def across(settings: Sequence[Any], found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Points by setting and name to points by name and setting."""
    return {name: {str(setting): one[name] for setting, one in zip(settings, found, strict=True)} for name in found[0]}
