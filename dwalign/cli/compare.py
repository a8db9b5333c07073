"""`dwalign compare`: how far networks are from one another, before and after alignment."""

import dataclasses
import itertools
from typing import Any

import numpy as np

import dwalign
from dwalign.cli import options
from dwalign.cli.distances import distances
from dwalign.cli.narrate import answer, stage, table
from dwalign.cli.plan import plan, plan_text
from dwalign.cli.subject import Subject, choose_method, of_kinds, open_subject

# inputs that a forecast looks at
SOME = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Matched):
    """Compare networks pair by pair: distance of weights, will they merge, and with labels the barrier between them.

    A barrier is the rise of the loss on the straight line between two networks, above that between their ends; before
    alignment and after. Two networks merge well where it is small after alignment. What it will be is forecast for
    classifiers, with an interval for 9 of 10 cases: roughly from weights alone, well from inputs without labels.
    The chance is that of a unit to have the right partner if both networks went on from one: it is close to 1 for
    close relatives, and low for networks that were trained apart.
    Distances are over all weights; with --kinds all in the gauge that makes weights smallest, in which the factors of
    two networks are alike. Methods that compare weights bring networks nearer to one another; others need not.
    """

    files: options.Files
    """weights of the networks, two or more"""
    points: int = 11
    """networks on the path that are judged, both ends included; an odd number"""


def main(asked: Options) -> None:
    """Run the command."""
    if len(asked.files) < 2:
        raise ValueError(f"FILES must be two networks or more, got {len(asked.files)}")
    if asked.points < 3 or asked.points % 2 == 0:
        raise ValueError(f"--points must be odd and at least 3, so that the midpoint is one, got {asked.points}")
    subject = open_subject(asked, asked.files)
    subject = of_kinds(subject, asked.kinds)
    method = choose_method(asked, subject)
    found = plan(subject, method, certified=subject.certified(asked))
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    networks = subject.named(subject.in_memory(method))
    pairs = []
    for one, two in itertools.combinations(networks, 2):
        with stage(f"{one} and {two}"):
            pairs.append({"a": one, "b": two} | _compared(asked, subject, method, networks[one], networks[two]))
    columns = [key for key in pairs[0] if key not in ("a", "b")]
    rows = [(f"{pair['a']} - {pair['b']}", *(f"{pair[key]:.4g}" for key in columns)) for pair in pairs]
    answer({"method": str(method), "pairs": pairs}, table(("", *columns), rows), as_json=asked.json)


def _compared(asked: Options, subject: Subject, method: Any, a: Any, b: Any) -> dict[str, float]:
    network, spec, data = subject.network, subject.network.spec, subject.data
    perms = dwalign.align(
        network, a, b, method, data=data, task=subject.task, key=subject.key, certified=subject.certified(asked)
    ).perms
    aligned = dwalign.permute(spec, b, perms)
    before, after = distances(spec, a, b, aligned)
    found = {"distance": before, "aligned": after}
    # from weights, which tell it best whatever found the matching
    chances = list(dwalign.evaluation.confidence(spec, a, b, perms).chance.values())
    found["chance"] = float(sum(map(np.sum, chances)) / max(1, sum(map(np.size, chances))))
    if subject.task == dwalign.program.ANSWERS:
        inputs = None if data is None else dwalign.program.take_examples(data.inputs, slice(SOME))
        if inputs is not None and not dwalign.evaluation.gives_logits(network, a, inputs):
            return found
        guess = dwalign.evaluation.forecast(network, a, aligned, inputs=inputs)
        found |= {"forecast": guess.barrier, "at least": guess.low, "at most": guess.high}
    if data is not None and data.labels is not None:
        for name, end in (("barrier", b), ("aligned barrier", aligned)):
            walk = dwalign.curve(
                network, a, end, data, task=subject.task, points=asked.points, renew=data.inputs, chunk=256
            )
            found[name] = float(walk.barrier)
    return found
