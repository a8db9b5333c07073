"""Every method on the same held-out pairs, and the report."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from dwalign import deepalign, report, zoo
from dwalign.evaluation import Measured, benchmark
from study.aligners import train_aligners
from study.methods import MATCHING, OPTIMISED, Method, baselines, learned, renewal
from study.options import Options, open_folder
from study.tasks import CLASSIFICATION, Data, Task, make_zoo, networks_in, to_device

PyTree = Any
SHOWN = ("naive", "weight_matching", *MATCHING, "sinkhorn", "deep_align", "deep_align+refine")
PAPER_TABLE = (
    "naive",
    "weight_matching",
    "activation_matching",
    "sinkhorn",
    "weight_matching+sinkhorn",
    "deep_align",
    "deep_align+sinkhorn",
)
# asked of every row in distribution
TARGETS = [
    report.Target("deep_align", "barrier", 0.6, OPTIMISED),
    report.Target("deep_align+refine", "barrier", 0.8, ["sinkhorn"]),
    report.Target("deep_align+refine", "barrier", 0.8, ["weight_matching+sinkhorn"]),
    report.Target("deep_align+refine", "seconds_per_pair", 0.1, ["sinkhorn"]),
    report.Target("deep_align", "seconds_per_pair", 0.01, ["sinkhorn"]),
    report.Target("deep_align", "seconds_per_pair", 1.0, ["weight_matching"]),
]


def judge(
    options: Options,
    nets: zoo.Zoo,
    few: Data,
    test: Data,
    fixed: Mapping[str, Method],
    by_seed: Sequence[Mapping[str, Method]],
    task: Task = CLASSIFICATION,
) -> dict[str, list[Measured]]:
    """Every method on the same held-out pairs: `fixed` once, `by_seed` for each aligner.

    Args:
      few: training data for the batch statistics of merged networks.
      test: the full test set; with `task.views` the data of each group of test networks, `[groups, m, ...]`.
    """
    check_skip(options, {*fixed, *(name for methods in by_seed for name in methods)})
    kept = lambda methods: {name: method for name, method in methods.items() if name not in options.skip}
    first, second = (index[: options.test_pairs] for index in zoo.held_out_pairs(zoo.size(nets.test), views=task.views))
    compare = partial(
        benchmark,
        nets.network.spec,
        nets.network.apply,
        a=zoo.take(nets.test, first),
        b=zoo.take(nets.test, second),
        test=test if task.views is None else zoo.take(test, first // task.views),
        per_pair=task.views is not None,
        key=jax.random.key(2),
        chunk=options.chunk,
        points=options.points,
        loss=task.loss,
        hits=task.hits,
        prepare=renewal(nets.network, few),
    )
    measured: dict[str, list[Measured]] = {name: [found] for name, found in compare(methods=kept(fixed)).items()}
    for methods in by_seed:
        for name, found in compare(methods=kept(methods)).items():
            measured.setdefault(name, []).append(found)
    return measured


def check_skip(options: Options, names: Iterable[str]) -> None:
    """Raise `RunError` unless `options.skip` holds some of the names."""
    choices = sorted(set(names) - {"naive", "deep_align"})
    if wrong := [name for name in options.skip if name not in choices]:
        raise report.RunError(f"skip must name some of {choices}, found {wrong}")


def compare(
    options: Options,
    experiment: str,
    network: Mapping[str, Any],
    data: zoo.Dataset,
    targets: Sequence[report.Target] = (),
    task: Task = CLASSIFICATION,
    *,
    images: int = 256,
) -> dict[str, Any]:
    """The whole study of one kind of classifier: zoo, aligners, every method on held-out pairs, report.

    Args:
      experiment: names the folder of the run.
      network: what `dwalign.networks.build` takes.
      data: what the zoo is trained and judged on.
      images: drawn in each step of training an aligner.
    """
    folder, settings = open_folder(options, experiment)
    train, test = to_device(data.train), to_device(data.test)
    few = (train[0][: options.refine_images], train[1][: options.refine_images])
    nets = make_zoo(options, network, data, task)
    fixed = baselines(options, nets.network, train, few, task)
    check_skip(options, {*fixed, *learned(options, nets.network, None, train, few, task)})
    aligners = train_aligners(options, nets, train, few, to_device(data.validation), folder, task, images=images)
    by_seed = [
        learned(options, nets.network, trained.aligner, train, few, task, longest=trained is aligners[0])
        for trained in aligners
    ]
    measured = judge(options, nets, few, test, fixed, by_seed, task)
    return write_report(folder, experiment, settings, networks_in(nets), measured, aligners, targets)


def write_report(
    folder: Path,
    experiment: str,
    settings: Mapping[str, Any],
    networks: int,
    measured: Mapping[str, Sequence[Measured]],
    aligners: Sequence[deepalign.Trained | deepalign.Aligner],
    targets: Sequence[report.Target] = (),
) -> dict[str, Any]:
    """results.json, the figures and the printed table; returns the results.

    Targets that ask for methods which were left out are left out too. Aligners that were trained in this run get a
    figure of their training.
    """
    targets = [target for target in targets if {target.method, *target.others} <= set(measured)]
    trained = [one for one in aligners if isinstance(one, deepalign.Trained)]
    variables = [one.aligner.variables if isinstance(one, deepalign.Trained) else one.variables for one in aligners]
    results = report.make_results(
        experiment,
        dict(settings) | ({"aligner_parameters": count_parameters(variables[0])} if variables else {}),
        {"networks": networks, "accuracy": float(measured["naive"][0].curve.accuracy[:, 0].mean())},
        measured,
        targets,
    )
    report.write_results(folder / "results.json", results)
    report.interpolation_figure(results, folder / "interpolation.png", SHOWN)
    report.interpolation_figure(results, folder / "interpolation-all.png")
    report.quality_figure(results, folder / "quality.png")
    if trained:
        report.training_figure([one.metrics for one in trained], folder / "training.png")
    for found in measured.get("deep_align", [])[:1]:
        example = jax.tree.map(lambda leaf: leaf[0], found.alignments)
        report.matrix_figure(example.scores, example.perms, folder / "scores.png")
    print(report.text_table(results))
    return results


def print_paper_table(results: Mapping[str, Any]) -> None:
    """The rows of the paper's Table 2, in its order."""
    rows = {name: results["methods"][name] for name in PAPER_TABLE if name in results["methods"]}
    print("\nThe rows of the paper's Table 2:\n" + report.text_table({**results, "methods": rows, "targets": []}))


def count_parameters(tree: PyTree) -> int:
    """The number of values in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
