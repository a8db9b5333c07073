"""`dwalign train`: an aligner for a network of your own."""

import dataclasses

import dwalign
from dwalign.cli import options
from dwalign.cli.narrate import answer, stage
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.recipe import check_beside, write_recipe
from dwalign.cli.subject import Subject, open_subject
from dwalign.deepalign.settings import AlignerConfig, LossWeights, Optimisation

FEWEST = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Asked):
    """Train an aligner on networks that were trained from different seeds.

    It is judged on pairs of networks that it does not see, and the best by that is kept. The folder OUTPUT is then an
    aligner: `dwalign merge a b --method deep_align --aligner OUTPUT`.
    """

    files: options.Files
    """weights of the networks, six or more; hundreds make good aligners"""
    output: options.Output
    """the folder of the aligner"""
    validation: float = 0.2
    """share of the networks that the aligner is judged on; the last ones"""
    validate_every: int = 50
    """steps of training between two validations, each of which leaves a checkpoint"""
    aligner: AlignerConfig = AlignerConfig()
    training: Optimisation = Optimisation(steps=600, batch_size=8)
    losses: LossWeights = LossWeights()
    resume: bool = False
    """go on with a training that was interrupted"""
    overwrite: bool = False
    """replace an aligner that exists"""


def main(asked: Options) -> None:
    """Run the command."""
    if len(asked.files) < FEWEST or asked.data is None:
        raise ValueError(f"needs {FEWEST} networks or more and --data with inputs and labels, got {len(asked.files)}")
    if not 0 < asked.validation < 1:
        raise ValueError(f"--validation must be a share between 0 and 1, got {asked.validation}")
    counts = {"validate-every": asked.validate_every, "training.steps": asked.training.steps}
    for name, count in (counts | {"training.batch-size": asked.training.batch_size}).items():
        if count < 1:
            raise ValueError(f"--{name} must be at least 1, got {count}")
    held_out = max(2, round(asked.validation * len(asked.files)) // 2 * 2)
    if len(asked.files) - held_out < 2:
        raise ValueError(f"--validation {asked.validation} leaves {len(asked.files) - held_out} networks to train on")
    if asked.output.exists() and not (asked.resume or asked.overwrite):
        raise dwalign.files.FileError(f"{asked.output} exists; --resume continues it, --overwrite replaces it")
    if not asked.output.parent.is_dir() or asked.output.is_file() or asked.output in asked.files:
        raise dwalign.files.FileError(f"--output must be a folder in one that exists, got {asked.output}; make that")
    check_beside(asked.output)
    subject = open_subject(asked, asked.files)
    if subject.data.labels is None:
        raise dwalign.files.FileError(f"{asked.data} must hold `labels` to train with, found inputs alone")
    found = plan(subject)
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    with stage("training the aligner"):
        trained = _train(asked, subject, held_out)
    found |= {"output": str(asked.output), "step": trained.best_step, "validation": trained.metrics}
    recipe = write_recipe("train", asked, asked.files, found)
    best = min(row["validation_barrier"] for row in trained.metrics)
    text = (
        f"{asked.output}: best at step {trained.best_step}, barrier {best:.4g} between {held_out} held-out networks; "
        f"{recipe.name} makes it again"
    )
    answer(found, text, as_json=asked.json)


def _train(asked: Options, subject: Subject, held_out: int):
    import jax
    import jax.numpy as jnp

    network, data, task = subject.network, subject.data, subject.task
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)
    networks = [jax.tree.map(jnp.asarray, one) for one in subject.in_memory(dwalign.deep_align)]
    train, validation = stack(networks[:-held_out]), networks[-held_out:]
    barrier = dwalign.evaluation.mean_barrier(
        network, stack(validation[::2]), stack(validation[1::2]), data, task=task, renew=data.inputs
    )
    model = dwalign.deepalign.make_model(network, asked.aligner, data.inputs)
    return dwalign.deepalign.train_aligner(
        model,
        dwalign.deepalign.make_step(
            model, network, train, data, weights=asked.losses, optimisation=asked.training, task=task
        ),
        dwalign.deepalign.init_state(model, asked.training, networks[0], asked.seed),
        steps=asked.training.steps,
        validate=lambda aligner: barrier(dwalign.deep_align.using(aligner=aligner)),
        validate_every=asked.validate_every,
        folder=asked.output,
        info=dwalign.deepalign.describe(network, asked.aligner, data.inputs),
        resume=asked.resume,
    )
