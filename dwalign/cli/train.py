"""`dwalign train`: an aligner for a network of your own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dwalign
from dwalign.cli import options
from dwalign.cli.data import read_data
from dwalign.cli.narrate import answer, stage, table
from dwalign.cli.options import check_free
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.recipe import check_beside, write_card, write_recipe
from dwalign.cli.report import write_page
from dwalign.cli.subject import Subject, open_subject
from dwalign.deepalign.settings import AlignerConfig, LossWeights, Optimisation
from dwalign.zoo import Recipe

FEWEST = 4
# where networks are trained here; of files none are taken away unasked
PAIRS = 10
# networks that are trained at once, and pairs that are aligned at once
CHUNK = 10
# examples that batch statistics are computed on, and of which a search sees no more
FEW = 1024
BY_GRADIENTS = ("aligner", "training", "losses")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Asked):
    """Make an aligner for a network of your own, from the network and data alone.

    Networks are trained from different seeds, unless there are FILES of some; the aligner that ships is fine-tuned on
    them, the best is chosen by networks that this did not see, and judged beside other methods on pairs that nothing
    saw. The folder OUTPUT is then an aligner: `dwalign merge a b --method deep_align --aligner OUTPUT`. It holds
    results.json, for `dwalign report OUTPUT`; a recipe and a card lie beside it.
    """

    files: options.Files = ()
    """weights of networks that are trained already, four or more; without any, they are trained here"""
    output: options.Output
    """the folder of the aligner, and of the networks that are trained for it"""
    networks: int = 20
    """that are trained here, to learn from and to choose by"""
    pairs: int | None = None
    """of networks on which the result is judged, which nothing else sees: trained beside the others, 10 if not given;
    or the last of FILES, of which none are taken if not given"""
    recipe: Recipe = Recipe()
    test: Path | None = None
    """.npz that the result is judged on, in place of --data"""
    validation: float = 0.2
    """share of the networks that the aligner is chosen by; the last ones"""
    start: Literal["any", "none"] = "any"
    """any fine-tunes the aligner that ships; none trains one from nothing, which needs hundreds of networks"""
    tries: int = 40
    """of the search for better numbers that fine-tuning is"""
    validate_every: int = 50
    """steps of training from nothing between two validations, each of which leaves a checkpoint"""
    aligner: AlignerConfig = AlignerConfig()
    training: Optimisation = Optimisation(steps=600, batch_size=8)
    losses: LossWeights = LossWeights()
    report: Path | None = None
    """also write one HTML page, such as page.html: how the aligner does beside other methods"""
    resume: bool = False
    """go on with what was interrupted"""
    overwrite: bool = False
    """replace an aligner that exists"""


class Roles(NamedTuple):
    """How many networks are learned from, chosen by and judged on."""

    train: int
    validation: int
    test: int


def main(asked: Options) -> None:
    """Run the command."""
    roles = _roles(asked)
    _check(asked)
    test = None if asked.test is None else read_data(asked.test)
    subject = open_subject(asked, asked.files)
    for file, data in ((asked.data, subject.data), (asked.test, test)):
        if data is not None and data.labels is None:
            raise dwalign.files.FileError(f"{file} must hold `labels` to train with, found inputs alone")
    if test is not None:
        subject.check_data(Path(str(asked.test)), test)
    _check_start(asked, subject)
    found = plan(subject) | {"roles": roles._asdict()}
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    networks = _networks(asked, subject, roles)
    with stage("training the aligner"):
        trained = _train(asked, subject, networks)
    found |= {"output": str(asked.output), "step": trained.best_step, "validation": trained.metrics}
    best = min(row["validation_barrier"] for row in trained.metrics)
    text = [f"best at step {trained.best_step}, barrier {best:.4g} between {roles.validation} networks that chose it"]
    if roles.test:
        with stage("judging it beside other methods"):
            results = _judge(asked, subject, networks, trained.aligner, test or subject.data)
        found["barrier"] = {name: one["barrier"]["mean"] for name, one in results["methods"].items()}
        text = [_table(results), *text]
        if asked.report is not None:
            write_page(asked.report, results)
    recipe = write_recipe("train", asked, asked.files, found)
    card = write_card(asked.output, asked.output.name, _card(asked, found, roles))
    text.append(f"{asked.output}; {recipe.name} makes it again, {card.name} describes it")
    answer(found, "\n".join(text), as_json=asked.json)


def _roles(asked: Options) -> Roles:
    pairs = asked.pairs if asked.pairs is not None else 0 if asked.files else PAIRS
    if pairs < 0 or pairs == 1:
        raise ValueError(f"--pairs must be 0, or at least 2, got {pairs}")
    others = len(asked.files) - 2 * pairs if asked.files else asked.networks
    if others < FEWEST or asked.data is None:
        beside = f" beside those of {pairs} pairs" if asked.files and pairs else ""
        raise ValueError(f"needs {FEWEST} networks or more{beside} and --data with inputs and labels, got {others}")
    if not 0 < asked.validation < 1:
        raise ValueError(f"--validation must be a share between 0 and 1, got {asked.validation}")
    held_out = max(2, round(asked.validation * others) // 2 * 2)
    if others - held_out < 2:
        raise ValueError(f"--validation {asked.validation} leaves {others - held_out} networks to train on")
    return Roles(others - held_out, held_out, 2 * pairs)


def _check(asked: Options) -> None:
    """What can be told before anything is read."""
    counts = {"validate-every": asked.validate_every, "training.steps": asked.training.steps}
    for name, count in (counts | {"training.batch-size": asked.training.batch_size}).items():
        if count < 1:
            raise ValueError(f"--{name} must be at least 1, got {count}")
    if asked.tries < 0:
        raise ValueError(f"--tries must be at least 0, got {asked.tries}")
    default = {field.name: field.default for field in dataclasses.fields(Options)}
    given = [name for name in BY_GRADIENTS if getattr(asked, name) != default[name]]
    if asked.start == "any" and given:
        raise ValueError(f"--{given[0]}.* is for training from nothing, and what ships has its own; say --start none")
    if asked.output.exists() and not (asked.resume or asked.overwrite):
        raise dwalign.files.FileError(f"{asked.output} exists; --resume continues it, --overwrite replaces it")
    if not asked.output.parent.is_dir() or asked.output.is_file() or asked.output in asked.files:
        raise dwalign.files.FileError(f"--output must be a folder in one that exists, got {asked.output}; make that")
    check_beside(asked.output)
    if asked.report is not None:
        if not _roles(asked).test:
            raise ValueError("--report needs pairs to judge the aligner on, got --pairs 0")
        check_free("report", asked.report, asked.overwrite or asked.resume)


def _check_start(asked: Options, subject: Subject) -> None:
    import jax

    if asked.start == "any":
        reason = dwalign.deepalign.why_unfit(subject.network)
        if subject.task is not dwalign.CLASSIFICATION:
            reason = f"{asked.data} holds labels that are no classes"
        if reason:
            raise ValueError(f"--start any: the aligner that ships is not for this network: {reason}; say --start none")
    if not asked.files:
        try:
            jax.eval_shape(subject.network.init, jax.random.key(0))
        except ValueError as error:
            raise ValueError(
                f"--network {asked.network}: how it is initialised is not known here; train {FEWEST} networks or more "
                "with its own package, and pass their files"
            ) from error


def _networks(asked: Options, subject: Subject, roles: Roles) -> Any:
    """A `dwalign.zoo.Zoo`: the files in their order, or networks that are trained now; what is there is kept."""
    if not asked.files:
        classes = 0 if subject.task is not dwalign.CLASSIFICATION else int(subject.data.labels.max()) + 1
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
    import jax.numpy as jnp

    networks = subject.in_memory(dwalign.deep_align)
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *networks)
    part = lambda begin, count: jax.tree.map(lambda leaf: leaf[begin : begin + count], stacked)
    begins = (0, roles.train, roles.train + roles.validation)
    return dwalign.zoo.Zoo(subject.network, *map(part, begins, roles), cached=True)


def _train(asked: Options, subject: Subject, networks: Any) -> Any:
    import jax

    network, data, task = subject.network, subject.data, subject.task
    learned, deepalign = dwalign.deep_align, dwalign.deepalign
    few = dwalign.program.take_examples(jax.tree.map(jax.numpy.asarray, data), slice(FEW))

    def barrier(role, data):
        first, second = dwalign.zoo.held_out_pairs(dwalign.symmetry.count_networks(role))
        pairs = (dwalign.symmetry.take_networks(role, index) for index in (first, second))
        return dwalign.evaluation.mean_barrier(network, *pairs, data, task=task, renew=few.inputs)

    common: dict[str, Any] = {"folder": asked.output, "resume": asked.resume}
    if asked.start == "any":
        aligner, config = deepalign.untie(network, few.inputs)
        tried, chosen = (barrier(role, few) for role in (networks.train, networks.validation))
        return deepalign.train_aligner(
            aligner.model,
            deepalign.make_search(
                lambda variables: tried(learned.using(aligner=dataclasses.replace(aligner, variables=variables)))
            ),
            deepalign.begin_search(aligner.variables, asked.seed),
            steps=asked.tries + 1,
            validate=lambda aligner: chosen(learned.using(aligner=aligner)),
            validate_every=1,
            info=deepalign.describe(network, config, few.inputs),
            **common,
        )
    model = deepalign.make_model(network, asked.aligner, data.inputs)
    chosen = barrier(networks.validation, data)
    return deepalign.train_aligner(
        model,
        deepalign.make_step(
            model, network, networks.train, data, weights=asked.losses, optimisation=asked.training, task=task
        ),
        deepalign.init_state(model, asked.training, dwalign.symmetry.take_networks(networks.train, 0), asked.seed),
        steps=asked.training.steps,
        validate=lambda aligner: chosen(learned.using(aligner=aligner)),
        validate_every=asked.validate_every,
        info=deepalign.describe(network, asked.aligner, data.inputs),
        **common,
    )


def _judge(asked: Options, subject: Subject, networks: Any, aligner: Any, test: Any) -> dict[str, Any]:
    """The aligner beside what needs none, on pairs that nothing saw; results.json too."""
    import jax

    few, test = jax.tree.map(jax.numpy.asarray, (dwalign.program.take_examples(subject.data, slice(FEW)), test))
    first, second = dwalign.zoo.held_out_pairs(dwalign.symmetry.count_networks(networks.test))
    learned = dwalign.deep_align.using(aligner=aligner)
    others = ("naive", "weight_matching", "activation_matching", "activation_matching_correlation")
    measured = dwalign.evaluation.benchmark(
        subject.network,
        [*map(dwalign.find_method, others), learned],
        *(dwalign.symmetry.take_networks(networks.test, index) for index in (first, second)),
        test,
        key=subject.key,
        data=few,
        task=subject.task,
        chunk=max((n for n in range(2, CHUNK + 1) if len(first) % n == 0), default=len(first)),
        renew=few.inputs,
    )
    accuracy = float(measured["naive"].curve.accuracy[:, 0].mean())
    results = dwalign.report.make_results(
        asked.output.name,
        {"network": asked.network, "start": asked.start},
        {"networks": 2 * len(first), "accuracy": accuracy},
        {name: [one] for name, one in measured.items()},
    )
    dwalign.report.write_results(asked.output / "results.json", results)
    return results


def _table(results: Mapping[str, Any]) -> str:
    head = ("", "barrier", "95 %", "s a pair")
    rows = [
        (
            dwalign.report.display_name(name),
            f"{one['barrier']['mean']:.4f}",
            "{:.4f} to {:.4f}".format(*one["barrier"]["ci95"]),
            f"{one['seconds_per_pair']['mean']:.3f}",
        )
        for name, one in results["methods"].items()
    ]
    return table(head, rows)


def _card(asked: Options, found: Mapping[str, Any], roles: Roles) -> list[str]:
    start = "The aligner that ships, fine-tuned" if asked.start == "any" else "An aligner trained from nothing"
    whose = "of FILES" if asked.files else f"trained on {asked.data} for {asked.recipe.epochs} epochs"
    about = (
        f"{start} on {roles.train} networks {asked.network}, {whose}, and chosen by {roles.validation} others. It is "
        f"for networks of this architecture that learned from such data, and keeps inputs of {asked.data}."
    )
    rows = [
        f"| {dwalign.report.display_name(name)} | {value:.4f} |" for name, value in found.get("barrier", {}).items()
    ]
    judged = [
        "\n".join(["| method | barrier |", "| - | - |", *rows]),
        f"Means over {roles.test // 2} pairs of networks that nothing else saw, judged on {asked.test or asked.data}"
        f"{'' if asked.test else ', which the networks were trained on'}.",
    ]
    return [about, *(judged if rows else []), f"Made by dwalign {dwalign.__version__}."]
