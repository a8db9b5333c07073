"""Networks to learn from, what is learned from them, and how it does: the parts of `dwalign train`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import dwalign
from dwalign.cli.narrate import table
from dwalign.cli.subject import Subject

# networks that are trained at once, and pairs that are aligned at once
CHUNK = 10
# examples that methods get, and that batch statistics are computed on
FEW = 1024
OTHERS = ("naive", "weight_matching", "anchored_matching", "activation_matching", "activation_matching_correlation")


class Roles(NamedTuple):
    """How many networks are learned from, chosen by and judged on."""

    train: int
    validation: int
    test: int


def networks_of(asked: Any, subject: Subject, roles: Roles) -> Any:
    """A `dwalign.zoo.Zoo`: the files in their order, or networks that are trained now; what is there is kept."""
    if not asked.files:
        classes = int(subject.data.labels.max()) + 1 if subject.task is dwalign.program.ANSWERS else 0
        return dwalign.zoo.get_zoo(
            subject.network,
            dwalign.zoo.Dataset("data", subject.data, subject.data, subject.data, classes),
            asked.recipe,
            dwalign.zoo.ZooSize(*roles),
            folder=asked.output / "networks",
            chunk=min(CHUNK, sum(roles)),
            seed=asked.seed,
            task=subject.task,
        )
    import jax
    import numpy as np

    networks = subject.in_memory(dwalign.deep_align)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    part = lambda begin, count: dwalign.symmetry.take_networks(stacked, slice(begin, begin + count))
    train, validation, test = map(part, (0, roles.train, roles.train + roles.validation), roles)
    return dwalign.zoo.Zoo(subject.network, train, validation, test, cached=True)


def fine_tune(asked: Any, subject: Subject, networks: Any) -> Any:
    """The aligner that ships, fine-tuned; a `Trained`."""
    return dwalign.evaluation.fine_tune(
        subject.network,
        networks.train,
        networks.validation,
        subject.data,
        folder=asked.output,
        tries=asked.tries,
        seed=asked.seed,
        resume=asked.resume,
    )


def train_from_nothing(asked: Any, subject: Subject, networks: Any) -> Any:
    """An aligner as the options describe it; a `Trained`."""
    network, data, task = subject.network, subject.data, subject.task
    model = dwalign.deepalign.make_model(network, asked.aligner, data.inputs)
    step = dwalign.deepalign.make_step(
        model, network, networks.train, data, weights=asked.losses, optimisation=asked.training, task=task
    )
    example = dwalign.symmetry.take_networks(networks.train, 0)
    barrier = dwalign.evaluation.mean_barrier(network, *_pairs(networks.validation), data, task=task, renew=data.inputs)
    return dwalign.deepalign.train_aligner(
        model,
        step,
        dwalign.deepalign.init_state(model, asked.training, example, asked.seed),
        steps=asked.training.steps,
        validate=lambda aligner: barrier(dwalign.deep_align.using(aligner=aligner)),
        validate_every=asked.validate_every,
        folder=asked.output,
        info=dwalign.deepalign.describe(network, asked.aligner, data.inputs),
        resume=asked.resume,
    )


def judge_beside(asked: Any, subject: Subject, networks: Any, aligner: Any, test: Any) -> dict[str, Any]:
    """The content of results.json: the aligner beside what needs none, on the networks for testing."""
    import jax

    few = dwalign.program.take_examples(subject.data, slice(FEW))
    few, test = jax.tree.map(jax.numpy.asarray, (few, test))
    first, second = _pairs(networks.test)
    pairs = dwalign.symmetry.count_networks(first)
    measured = dwalign.evaluation.benchmark(
        subject.network,
        [*map(dwalign.find_method, OTHERS), dwalign.deep_align.using(aligner=aligner)],
        first,
        second,
        test,
        key=subject.key,
        data=few,
        task=subject.task,
        chunk=max((n for n in range(2, CHUNK + 1) if pairs % n == 0), default=pairs),
        renew=few.inputs,
    )
    return dwalign.report.make_results(
        asked.output.name,
        {"network": asked.network, "start": asked.start},
        {"networks": 2 * pairs, "accuracy": float(measured["naive"].curve.accuracy[:, 0].mean())},
        {name: [one] for name, one in measured.items()},
    )


def barrier_table(results: Mapping[str, Any]) -> str:
    """A row a method."""
    rows = [
        (
            dwalign.report.display_name(name),
            f"{one['barrier']['mean']:.4f}",
            "{:.4f} to {:.4f}".format(*one["barrier"]["ci95"]),
            f"{one['seconds_per_pair']['mean']:.3f}",
        )
        for name, one in results["methods"].items()
    ]
    return table(("", "barrier", "95 %", "s a pair"), rows)


def _pairs(networks: Any) -> tuple[Any, Any]:
    first, second = dwalign.zoo.held_out_pairs(dwalign.symmetry.count_networks(networks))
    return dwalign.symmetry.take_networks(networks, first), dwalign.symmetry.take_networks(networks, second)
