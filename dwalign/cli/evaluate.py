"""`dwalign evaluate`: loss and accuracy of networks on data."""

import dataclasses
import math

import dwalign
from dwalign.cli import options
from dwalign.cli.judged import judge, judged_table
from dwalign.cli.narrate import answer
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.subject import open_subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Asked):
    """Judge each network on all of --data, which must hold labels: integers for classes, others for regression."""

    files: options.Files
    """weights of the networks"""


def main(asked: Options) -> None:
    """Run the command."""
    if asked.data is None or not asked.files:
        raise ValueError("needs --data, an .npz with inputs and labels, and at least one file of weights")
    subject = open_subject(asked, asked.files)
    if subject.data.labels is None:
        raise dwalign.files.FileError(f"{asked.data} must hold `labels` to judge networks by, found inputs alone")
    if asked.dry_run:
        found = plan(subject)
        answer(found, plan_text(found), as_json=asked.json)
        return
    for one, params in zip(subject.weights, subject.params, strict=True):
        dwalign.symmetry.check_finite("evaluate", subject.network.spec, params, str(one.path))
    judged = judge(subject, subject.named(subject.params), subject.data)
    for name, one in judged.items():
        if not math.isfinite(one.loss):
            raise ValueError(
                f"{asked.data}: the loss of {name} must be finite, found {one.loss}; is an input infinite?"
            )
    answer({name: one._asdict() for name, one in judged.items()}, judged_table(subject, judged), as_json=asked.json)
