"""Every method on the same held-out pairs, and the report."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from dwalign import deepalign, report, zoo
from dwalign.deepalign import deep_align
from dwalign.evaluation import Measured, benchmark
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task, take_examples
from dwalign.symmetry import count_networks, take_networks
from study.aligners import train_aligners
from study.methods import MATCHING, OPTIMISED, baselines, learned
from study.options import Options, open_folder
from study.zoos import make_zoo, networks_in, to_device

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
    fixed: Sequence[Method],
    by_seed: Sequence[Sequence[Method]],
    test: Data,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    *,
    views: int | None = None,
) -> dict[str, list[Measured]]:
    """Every method on the same held-out pairs: `fixed` once, `by_seed` for each aligner.

    Args:
      test: the full test set; with `views` the data of each group of test networks, `[groups, m, ...]`, which are also
        those that the methods get.
      data: the training set, for methods that need it and for the batch statistics of merged networks.
      task, views: of the zoo.
    """
    check_skip(options, [*fixed, *(method for methods in by_seed for method in methods)])
    pairs = zoo.held_out_pairs(count_networks(nets.test), views=views)
    first, second = (index[: options.networks.pairs] for index in pairs)
    few = None if data is None else take_examples(data.inputs, slice(options.refine_images))
    measured: dict[str, list[Measured]] = {}
    # the first aligner beside those that need none, so that one program judges them all
    for methods in ([*fixed, *by_seed[0]], *by_seed[1:]) if by_seed else [fixed]:
        found = benchmark(
            nets.network,
            list({str(method): method for method in methods if str(method) not in options.skip}.values()),
            take_networks(nets.test, first),
            take_networks(nets.test, second),
            test if views is None else take_networks(test, first // views),
            key=jax.random.key(2),
            data=data,
            task=task,
            chunk=options.chunk,
            points=options.points,
            renew=few,
            per_pair=views is not None,
        )
        for name, one in found.items():
            measured.setdefault(name, []).append(one)
    return measured


def check_skip(options: Options, methods: Iterable[Method]) -> None:
    """Raise `RunError` unless `options.skip` holds names of some of the methods."""
    choices = sorted({str(method) for method in methods} - {"naive", "deep_align"})
    if wrong := [name for name in options.skip if name not in choices]:
        raise report.RunError(f"skip must name some of {choices}, found {wrong}")


def compare(
    options: Options, experiment: str, network: Network, data: zoo.Dataset, targets: Sequence[report.Target] = ()
) -> dict[str, Any]:
    """The whole study of one kind of classifier: zoo, aligners, every method on held-out pairs, report.

    Args:
      experiment: names the folder of the run.
      network: what is aligned.
      data: what the zoo is trained and judged on.
    """
    check_skip(options, [*baselines(options), *learned(options)])
    folder, settings = open_folder(options, experiment)
    train, validation, test = to_device((data.train, data.validation, data.test))
    few = take_examples(train, slice(options.refine_images))
    nets = make_zoo(options, network, data)
    aligners = train_aligners(options, nets, train, few, validation, folder)
    by_seed = [
        learned(options, deep_align.using(aligner=trained.aligner), longest=trained is aligners[0])
        for trained in aligners
    ]
    measured = judge(options, nets, baselines(options), by_seed, test, train)
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
