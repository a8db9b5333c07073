"""`dwalign train`: an aligner for a network of your own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import dwalign
from dwalign.cli import options
from dwalign.cli.data import read_data
from dwalign.cli.narrate import answer, stage
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.recipe import besides, check_beside, write_card, write_recipe
from dwalign.cli.report import check_page, write_page
from dwalign.cli.subject import Subject, open_subject
from dwalign.cli.taught import Roles, barrier_table, fine_tune, judge_beside, networks_of, train_from_nothing
from dwalign.deepalign.settings import AlignerConfig, LossWeights, Optimisation
from dwalign.zoo import Recipe

FEWEST = 4
# where networks are trained here; of files none are taken away unasked
PAIRS = 10
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
    """.npz that the result is judged on, in place of --data, which what is judged has seen in training"""
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
    networks = networks_of(asked, subject, roles)
    with stage("training the aligner"):
        trained = (fine_tune if asked.start == "any" else train_from_nothing)(asked, subject, networks)
    found |= {"output": str(asked.output), "step": trained.best_step, "validation": trained.metrics}
    best = min(row["validation_barrier"] for row in trained.metrics)
    text = [f"best at step {trained.best_step}, barrier {best:.4g} between {roles.validation} networks that chose it"]
    if roles.test:
        with stage("judging it beside other methods"):
            results = judge_beside(asked, subject, networks, trained.aligner, test or subject.data)
        dwalign.report.write_results(asked.output / "results.json", results)
        found["barrier"] = {name: one["barrier"]["mean"] for name, one in results["methods"].items()}
        text = [barrier_table(results), *text]
        if asked.report is not None:
            write_page(asked.report, results)
    recipe = write_recipe("train", asked, (*asked.files, *filter(None, (asked.data, asked.test))), found)
    card = write_card(asked.output, asked.output.name, _card(asked, found, roles))
    text.append(f"{asked.output}; {recipe.name} makes it again, {card.name} describes it")
    answer(found, "\n".join(text), as_json=asked.json)


def _roles(asked: Options) -> Roles:
    pairs = asked.pairs if asked.pairs is not None else 0 if asked.files else PAIRS
    if pairs < 0 or pairs == 1:
        raise ValueError(f"--pairs must be 0, or at least 2, got {pairs}")
    others = len(asked.files) - 2 * pairs if asked.files else asked.networks
    if asked.data is None:
        raise ValueError("needs --data, an .npz with inputs and labels that networks are trained and chosen on")
    if others < FEWEST:
        beside = f" beside those of {pairs} pairs" if asked.files and pairs else ""
        raise ValueError(f"needs {FEWEST} networks or more{beside}, got {others}")
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
        taken = (*options.read_by(asked), *besides(asked.output))
        check_page(asked.report, asked.overwrite or asked.resume, taken)


def _check_start(asked: Options, subject: Subject) -> None:
    import jax

    if asked.start == "any":
        reason = dwalign.deepalign.why_unfit(subject.network)
        if subject.task is not dwalign.program.ANSWERS:
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
