"""`dwalign align`: one network in the order of another."""

import dataclasses

import dwalign
from dwalign.cli import options
from dwalign.cli.distances import distances
from dwalign.cli.narrate import answer, size, stage, weight_of
from dwalign.cli.plan import UNCHECKED, plan, plan_text
from dwalign.cli.recipe import write_recipe
from dwalign.cli.subject import choose_method, of_kinds, open_subject


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Matched):
    """Write the second network in the order of the first.

    The function stays the same; no number is changed, only moved. The output is laid out as the second file is.
    """

    files: options.Files
    """the network whose order is taken, and the network that is written in it"""
    output: options.Output
    """where the second network goes in the order of the first"""
    overwrite: bool = False
    """replace an output that exists"""


def main(asked: Options) -> None:
    """Run the command."""
    if len(asked.files) != 2:
        raise ValueError(f"FILES must be two networks, got {len(asked.files)}")
    subject = open_subject(asked, asked.files, output=asked.output, like=1, overwrite=asked.overwrite)
    subject = of_kinds(subject, asked.kinds)
    method = choose_method(asked, subject)
    found = plan(subject, method, certified=subject.certified(asked))
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    network, (a, b) = subject.network, subject.in_memory(method)
    with stage(f"matching by {method.label}"), subject.naming():
        perms = dwalign.align(
            network,
            a,
            b,
            method,
            data=subject.data,
            task=subject.task,
            key=subject.key,
            certified=subject.certified(asked),
        ).perms
    aligned = dwalign.permute(network.spec, b, perms)
    with stage(f"writing {asked.output}"):
        written = subject.write(asked.output, aligned, like=1, overwrite=asked.overwrite)
    before, after = distances(network.spec, a, b, written)
    found |= {"output": str(asked.output), "distance": {"before": before, "after": after}}
    recipe = write_recipe("align", asked, (*asked.files, *filter(None, (asked.data,))), found)
    text = (
        f"distance of the two {before:.4g}, after alignment {after:.4g}\n{asked.output}, "
        f"{size(weight_of(asked.output))}; {recipe.name} makes it again"
    )
    if not found["certified"]:
        text += f"\nunchecked: {UNCHECKED}"
    answer(found, text, as_json=asked.json)
