"""`dwalign spec`: what can be permuted in a network, what is fixed, and why."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

import dwalign
from dwalign.cli import options
from dwalign.cli.narrate import answer, stage
from dwalign.cli.options import check_free, read_by
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.subject import of_kinds, open_subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Asked):
    """Show the symmetries of a network, read off its program and checked on numbers."""

    kinds: Literal["permutation", "all"] = "permutation"
    """all for signs, scales, orthogonal and linear maps beside the order of units"""
    complete: bool = False
    """also look for symmetries that the program has and the spec misses; slow"""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """write the spec as JSON, for PermutationSpec.from_json"""
    overwrite: bool = False
    """replace an output that exists"""


def main(asked: Options) -> None:
    """Run the command."""
    if asked.output is not None:
        check_free("output", asked.output, asked.overwrite, read_by(asked))
    subject = open_subject(asked, ())
    subject = of_kinds(subject, asked.kinds)
    network = subject.network
    found = plan(subject)
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    with stage("checking it on numbers"):
        certificate = dwalign.certify(
            network.spec, network.apply, network.params, network.example, complete=asked.complete
        )
    found |= {
        "kinds": dict(network.spec.kinds),
        "error": certificate.error,
        "tolerance": certificate.tolerance,
        "missed": [note._asdict() for note in certificate.missed],
    }
    if asked.output is not None:
        dwalign.files.write_bytes(asked.output, network.spec.to_json().encode())
    missed = [
        f"missed     {note.path}, dimension {note.dimension} of {note.size}: {note.why}" for note in certificate.missed
    ]
    checked = (
        f"checked    permuting changes the function by {certificate.error:.1e}, rounding is {certificate.tolerance:.1e}"
    )
    answer(found, "\n".join([network.spec.describe(), "", plan_text(found), checked, *missed]), as_json=asked.json)
