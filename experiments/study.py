"""What the experiments share: options, the methods that are compared, aligners, judging and the report.

A script is a dataclass of options on top of `Options`, its presets, and a `main` that calls these in order.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import tyro

from dwalign import deepalign, report, zoo
from dwalign.evaluation import Measured, benchmark, correct, curve
from dwalign.matching import (
    activation_matching,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.networks import Network, reset_statistics, with_batch_statistics
from dwalign.symmetry import permute

PyTree = Any
Method = Callable[..., Any]
Data = tuple[jax.Array, jax.Array]

MATCHING = ("activation_matching", "activation_matching_correlation")
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
OPTIMISED = ("weight_matching", *MATCHING)
# asked of every row in distribution
TARGETS = [
    report.Target("deep_align", "barrier", 0.6, OPTIMISED),
    report.Target("deep_align+refine", "barrier", 0.8, ["sinkhorn"]),
    report.Target("deep_align+refine", "barrier", 0.8, ["weight_matching+sinkhorn"]),
    report.Target("deep_align+refine", "seconds_per_pair", 0.1, ["sinkhorn"]),
    report.Target("deep_align", "seconds_per_pair", 0.01, ["sinkhorn"]),
    report.Target("deep_align", "seconds_per_pair", 1.0, ["weight_matching"]),
]
LOCAL = ("resume", "data_dir", "out", "skip")
ERRORS = (zoo.DataError, zoo.ZooError, report.RunError, report.ResultsError, deepalign.CheckpointError)


@dataclasses.dataclass(frozen=True)
class Options:
    """What every experiment can be told."""

    data_dir: str | None = None
    """where TFDS keeps prepared data; TFDS's own default if not given."""
    preset: Literal["smoke", "default", "paper"] = "default"
    """sets everything below; single values can still be given."""
    out: str = "runs"
    """results go to a folder of OUT named after the experiment, zoos are shared in OUT/zoos."""
    resume: bool = False
    """continue an interrupted run."""
    seeds: int = 1
    """number of aligners, each from its own seed."""
    skip: tuple[str, ...] = ()
    """methods to leave out, such as sinkhorn, where they take too long; all but naive and deep_align can be."""

    train_networks: int = 900
    validation_networks: int = 40
    test_pairs: int = 50
    zoo_chunk: int = 150
    epochs: int = 40
    zoo_batch_size: int = 64
    zoo_learning_rate: float = 2e-3

    encoder: Literal["dws", "graph", "probe"] = "probe"
    """the default is the best by measurement at the default budget."""
    channels: int | None = None
    """width of the encoder; its own default if not given."""
    depth: int | None = None
    """rounds of messages (graph, probe) or hidden layers (dws); likewise."""
    features: int = 128
    probes: int = 128
    """inputs that the probe encoder learns."""
    updates: int = 3
    """unrolled score updates."""
    shared: bool = False
    """layers of one role share the encoder's parameters."""
    target_pairs: int = 0
    """training pairs that refinement aligns as targets; 0 trains without them."""
    target_steps: int = 20
    through: int = 0
    """steps of refinement through which the aligner is trained."""
    steps: int = 1200
    batch_size: int = 16
    learning_rate: float = 1e-3
    supervised: float = 1.0
    alignment: float = 1.0
    mode_connectivity: float = 1.0
    midpoint: bool = True
    """take the mode-connectivity loss at the midpoint, not anywhere on the path as the paper does."""
    distillation: float = 1.0
    validate_every: int = 100

    refine_images: int = 1024
    """training images in each step of refinement (the whole training split of digits)."""
    sinkhorn_iterations: int = 1000
    chunk: int = 10
    """pairs that are aligned at once."""


SMOKE = dict(
    train_networks=40,
    validation_networks=8,
    test_pairs=4,
    zoo_chunk=40,
    epochs=10,
    channels=16,
    depth=2,
    features=32,
    updates=1,
    target_pairs=20,
    target_steps=5,
    steps=20,
    validate_every=10,
    refine_images=256,
    sinkhorn_iterations=20,
    chunk=2,
)


class Task(NamedTuple):
    """What the networks of a study were trained for.

    Attributes:
      loss: `(outputs, labels) -> scalar`, a mean over examples.
      hits: `(outputs, labels) -> [m]`, the examples that count as right.
      views: consecutive networks that share a data set of their own; None where all networks share one.
      augmentation: what leaves them nearly unchanged.
    """

    loss: Callable = zoo.cross_entropy
    hits: Callable = correct
    views: int | None = None
    augmentation: zoo.Augmentation = zoo.Augmentation()


CLASSIFICATION = Task()
C = TypeVar("C", bound=Options)


# ---- options -----------------------------------------------------------------------------------------------------
def read_options(kind: type[C], args: Sequence[str], defaults: Callable[[Any], Mapping], description: str | None) -> C:
    """Command line to options: `defaults(options)`, from the preset and the data set, replaces what no flag gives."""
    first, _ = tyro.cli(kind, args=[arg for arg in args if arg not in ("-h", "--help")], return_unknown_args=True)
    choices = {f.name: getattr(first, f.name) for f in dataclasses.fields(kind) if f.name in ("dataset", "network")}
    base = kind(preset=first.preset, **choices)
    return tyro.cli(
        kind, args=args, default=dataclasses.replace(base, **dict(defaults(first))), description=description
    )


def open_folder(options: Options, experiment: str) -> tuple[Path, dict[str, Any]]:
    """The run's folder, and the options that decide its results."""
    settings = {key: value for key, value in dataclasses.asdict(options).items() if key not in LOCAL}
    return report.open_run(Path(options.out) / experiment, settings, resume=options.resume), settings


def run(main: Callable[[Any], Any], read: Callable[[list[str]], Any]) -> None:
    """Run a script; what can be expected to fail ends with one line."""
    try:
        main(read(sys.argv[1:]))
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command with --resume continues")


# ---- zoo ---------------------------------------------------------------------------------------------------------
def zoo_size(options: Options, task: Task = CLASSIFICATION) -> zoo.ZooSize:
    """How many networks play each role; the test networks make `test_pairs` disjoint pairs (of views)."""
    pairs = 1 if task.views is None else task.views // 2
    test = -(-options.test_pairs // pairs) * (task.views or 2)
    return zoo.ZooSize(options.train_networks, options.validation_networks, test)


def make_zoo(
    options: Options, network: Mapping[str, Any], data: Any, task: Task = CLASSIFICATION, *, seed: int = 0
) -> zoo.Zoo:
    """The zoo of these options, trained or read from the cache."""
    recipe = zoo.Recipe(options.epochs, options.zoo_batch_size, options.zoo_learning_rate)
    sizes = zoo_size(options, task)
    nets = zoo.get_zoo(
        dict(network),
        data,
        recipe,
        sizes,
        folder=Path(options.out) / "zoos",
        chunk=options.zoo_chunk,
        seed=seed,
        loss=task.loss,
        views=task.views,
    )
    print(f"zoo: {sum(sizes)} networks {'read from the cache' if nets.cached else 'trained'}")
    return nets


def make_test_zoo(options: Options, network: Mapping[str, Any], data: Any) -> zoo.Zoo:
    """Networks for judging alone, from seeds that no aligner's training networks have, on whatever data."""
    only_test = dataclasses.replace(options, train_networks=0, validation_networks=0)
    return make_zoo(only_test, network, data, seed=500_000_000)


# ---- methods -----------------------------------------------------------------------------------------------------
def then(first: Method, second: Method) -> Method:
    """The method that starts `second` from what `first` found."""

    def method(a, b, *, key):
        keys = jax.random.split(key)
        return second(a, b, key=keys[1], start=first(a, b, key=keys[0]))

    return method


def optimisers(options: Options, network: Network, batch: Data, few: Data, task: Task) -> tuple[Method, Method]:
    """Sinkhorn re-basin on `batch` and refinement on `few`."""
    on = dict(apply=with_batch_statistics(network), loss=task.loss)
    rebasin = partial(sinkhorn_rebasin, network.spec, **on, batch=batch, iterations=options.sinkhorn_iterations)
    return rebasin, partial(refine, network.spec, **on, batch=few)


def baselines(
    options: Options, network: Network, batch: Data, few: Data, task: Task = CLASSIFICATION
) -> dict[str, Method]:
    """The methods that need no aligner; `batch` is the whole training set, `few` that of a step of refinement."""
    spec = network.spec
    match_weights = partial(weight_matching, spec)
    correlate = partial(activation_matching, spec, capture=network.capture, batch=batch, correlation=True)
    rebasin, refined = optimisers(options, network, batch, few, task)
    return {
        "naive": partial(naive, spec),
        "weight_matching": match_weights,
        "weight_matching@5": partial(match_weights, restarts=5),
        "activation_matching": partial(activation_matching, spec, capture=network.capture, batch=batch),
        "activation_matching_correlation": correlate,
        "straight_through": partial(
            straight_through, spec, apply=with_batch_statistics(network), batch=batch, loss=task.loss
        ),
        "sinkhorn": rebasin,
        "weight_matching+sinkhorn": then(match_weights, rebasin),
        "activation_matching_correlation+refine": then(correlate, refined),
        "refine": refined,
    }


def learned(
    options: Options,
    network: Network,
    aligner: deepalign.Aligner,
    batch: Data,
    few: Data,
    task: Task = CLASSIFICATION,
    *,
    longest: bool = True,
) -> dict[str, Method]:
    """The methods that start from an aligner; `longest` includes the full Sinkhorn re-basin."""
    rebasin, refined = optimisers(options, network, batch, few, task)
    predict = partial(deepalign.deep_align, network.spec, aligner=aligner)
    short = options.sinkhorn_iterations // 10
    methods: dict[str, Method] = {
        "deep_align": predict,
        "deep_align+refine@5": then(predict, partial(refined, steps=5)),
        "deep_align+refine": then(predict, refined),
        f"deep_align+sinkhorn@{short}": then(predict, partial(rebasin, iterations=short)),
    }
    return methods | ({"deep_align+sinkhorn": then(predict, rebasin)} if longest else {})


def on_own_data(make: Callable[[Data], Mapping[str, Method]], example: Data) -> dict[str, Method]:
    """Methods for pairs that each have data of their own: `make(data)` gives those of one pair."""

    def bind(name):
        return lambda a, b, *, key, data: make(data)[name](a, b, key=key)

    return {name: bind(name) for name in make(example)}


# ---- aligners ----------------------------------------------------------------------------------------------------
def aligner_shape(options: Options) -> deepalign.AlignerConfig:
    """The aligner that these options ask for."""
    return deepalign.AlignerConfig(
        options.encoder,
        options.channels,
        options.depth,
        options.features,
        options.updates,
        options.probes,
        options.shared,
    )


def train_aligners(
    options: Options,
    nets: zoo.Zoo,
    data: Data,
    few: Data,
    held_out: Data,
    folder: Path,
    task: Task = CLASSIFICATION,
    *,
    images: int = 256,
    model: deepalign.DeepAlign | None = None,
) -> list[deepalign.Trained]:
    """One aligner a seed.

    Args:
      data: the training set; with `task.views` that of each group of networks, leaves `[groups, m, ...]`.
      few: training data for probes, targets and batch statistics.
      held_out: on which validation pairs are judged; with `task.views` that of each group of validation networks.
      images: drawn in each step for the mode-connectivity loss.
      model: what is trained, in place of the one that the options describe.
    """
    network, spec = nets.network, nets.network.spec
    inputs = data[0] if task.views is None else few[0]
    shape = aligner_shape(options)
    optimisation = deepalign.Optimisation(
        options.steps,
        options.batch_size,
        options.learning_rate,
        images=images,
        midpoint=options.midpoint,
        refine=options.through,
    )
    weights = deepalign.LossWeights(
        options.supervised, options.alignment, options.mode_connectivity, options.distillation
    )
    model = model or deepalign.make_model(network, shape, inputs)
    targets = None
    if options.target_pairs and task.views is None:
        correlate = partial(activation_matching, spec, capture=network.capture, batch=few, correlation=True)
        refined = partial(optimisers(options, network, few, few, task)[1], steps=options.target_steps)
        targets = deepalign.find_targets(
            then(correlate, refined), nets.train, jax.random.key(1), pairs=options.target_pairs
        )
    step = deepalign.make_step(
        model,
        with_batch_statistics(network),
        nets.train,
        zoo.Batch(*data),
        weights=weights,
        optimisation=optimisation,
        targets=targets,
        augmentation=task.augmentation,
        loss=task.loss,
        views=task.views,
    )
    first, second = zoo.held_out_pairs(options.validation_networks, views=task.views)
    pairs = zoo.take(nets.validation, first), zoo.take(nets.validation, second)
    on_path = dict(points=3, loss=task.loss, hits=task.hits, prepare=renewal(network, few))
    own = () if task.views is None else (zoo.take(held_out, first // task.views),)

    @jax.jit
    def validate(variables):
        aligner = deepalign.Aligner(model, variables)

        def one(pair):
            a, b, *on = pair
            moved = permute(spec, b, deepalign.deep_align(spec, a, b, aligner=aligner).perms)
            return curve(network.apply, a, moved, *(on or (held_out,)), **on_path).barrier

        return jax.lax.map(one, (*pairs, *own)).mean()

    aligners = []
    for seed in range(options.seeds):
        trained = deepalign.train_aligner(
            model,
            step,
            deepalign.init_state(model, optimisation, zoo.take(nets.train, 0), seed),
            steps=options.steps,
            validate=lambda aligner: validate(aligner.variables),
            validate_every=options.validate_every,
            folder=folder / f"seed-{seed}",
            info=deepalign.describe(network, shape, inputs),
            resume=options.resume,
        )
        print(f"aligner {seed}: best at step {trained.best_step}")
        aligners.append(trained)
    return aligners


class Home(NamedTuple):
    """A finished run whose aligners are used elsewhere.

    Attributes:
      network: config of the networks its aligners are for.
      data: the data set these were trained on.
      aligners: one a seed.
    """

    network: dict[str, Any]
    data: zoo.Dataset
    aligners: list[deepalign.Aligner]


def open_home(options: C, name: str) -> tuple[C, Home]:
    """The run OUT/`name`, and `options` with the recipe of its zoo.

    Raises:
      RunError: the run is missing or did not finish as many aligners as `options.seeds`.
    """
    folder = Path(options.out) / name
    best = [folder / f"seed-{seed}" / "checkpoints" / "best" for seed in range(options.seeds)]
    if missing := [str(file) for file in (folder / "config.json", *best) if not file.exists()]:
        raise report.RunError(f"{folder} must be a finished run of {options.seeds} aligners, {missing[0]} is missing")
    settings = json.loads((folder / "config.json").read_text())
    recipe = ("epochs", "zoo_batch_size", "zoo_learning_rate", "zoo_chunk")
    options = dataclasses.replace(options, **{key: settings[key] for key in recipe})
    data = zoo.load(settings["dataset"], data_dir=options.data_dir)
    data = shrink(data, settings["side"]) if "side" in settings else data
    network = deepalign.Checkpoints(best[0]).info()["network"]
    return options, Home(network, data, [deepalign.load_aligner(file) for file in best])


# ---- judging -----------------------------------------------------------------------------------------------------
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
    known = {*fixed, *(name for methods in by_seed for name in methods)}
    if wrong := [name for name in options.skip if name not in known - {"naive", "deep_align"}]:
        raise report.RunError(f"skip must name some of {sorted(known - {'naive', 'deep_align'})}, found {wrong}")
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
        loss=task.loss,
        hits=task.hits,
        prepare=renewal(nets.network, few),
    )
    measured: dict[str, list[Measured]] = {name: [found] for name, found in compare(methods=kept(fixed)).items()}
    for methods in by_seed:
        for name, found in compare(methods=kept(methods)).items():
            measured.setdefault(name, []).append(found)
    return measured


def renewal(network: Network, few: Data) -> Callable[[PyTree], PyTree]:
    """What is done to a merged network before it is judged: batch statistics are computed anew."""
    return partial(reset_statistics, network, inputs=few[0])


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
    aligners = train_aligners(options, nets, train, few, to_device(data.validation), folder, task, images=images)
    by_seed = [
        learned(options, nets.network, trained.aligner, train, few, task, longest=trained is aligners[0])
        for trained in aligners
    ]
    measured = judge(options, nets, few, test, baselines(options, nets.network, train, few, task), by_seed, task)
    return write_report(folder, experiment, settings, networks_in(nets), measured, aligners, targets)


# ---- report ------------------------------------------------------------------------------------------------------
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
    first = next(one.aligner if isinstance(one, deepalign.Trained) else one for one in aligners)
    results = report.make_results(
        experiment,
        dict(settings) | {"aligner_parameters": count_parameters(first.variables)},
        {"networks": networks, "accuracy": float(measured["naive"][0].curve.accuracy[:, 0].mean())},
        measured,
        targets,
    )
    report.write_results(folder / "results.json", results)
    report.interpolation_figure(results, folder / "interpolation.png", SHOWN)
    report.quality_figure(results, folder / "quality.png")
    if trained:
        report.training_figure([one.metrics for one in trained], folder / "training.png")
    example = jax.tree.map(lambda leaf: leaf[0], measured["deep_align"][0].alignments)
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


def networks_in(nets: zoo.Zoo) -> int:
    """The number of networks in all roles."""
    return sum(zoo.size(part) for part in (nets.train, nets.validation, nets.test))


def shrink(data: zoo.Dataset, side: int) -> zoo.Dataset:
    """Pictures of `[m, h, w, c]` averaged down by the largest whole factor that leaves at least `side` pixels."""
    factor = max(1, min(data.train.inputs.shape[1:3]) // side)
    if factor == 1:
        return data

    def one(batch):
        m, h, w, c = batch.inputs.shape
        h, w = h // factor, w // factor
        blocks = batch.inputs[:, : h * factor, : w * factor].reshape(m, h, factor, w, factor, c)
        return zoo.Batch(blocks.mean((2, 4)), batch.labels)

    return data._replace(train=one(data.train), validation=one(data.validation), test=one(data.test))


def to_device(batch: Any) -> Data:
    """A batch of a data set as arrays of JAX."""
    return jnp.asarray(batch.inputs), jnp.asarray(batch.labels)
