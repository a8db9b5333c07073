"""What methods need, reach and cost, side by side over experiments: for readers who have to choose one."""

from collections.abc import Mapping, Sequence
from typing import Any

from dwalign.matching import NEEDS, known_methods
from dwalign.report.methods import display_name, in_order, split
from dwalign.report.schema import ResultsError
from dwalign.report.tables import FORMATS, markdown

# what every barrier is a share of
REFERENCE = "naive"
WORDS = {
    "nothing": "nothing",
    "weights": "weights",
    "inputs": "inputs",
    "labels": "inputs, labels",
    "aligner": "an aligner",
}


def choice_table(experiments: Sequence[Mapping[str, Any]], methods: Sequence[str] = ()) -> str:
    """A row a method: what it asks for, and the barrier that it leaves and its time in each experiment; Markdown.

    Args:
      experiments: contents of results.json, each with the method "naive".
      methods: those to show; by default all that were measured in any of the experiments.

    Raises:
      ResultsError: an experiment without "naive", or a method that none of them measured.
    """
    measured = {name for results in experiments for name in results["methods"]}
    if missing := [name for name in methods if name not in measured]:
        raise ResultsError(f"methods: must be among those measured, {sorted(measured)}, found {missing}")
    names = [results["experiment"] for results in experiments]
    for name, results in zip(names, experiments, strict=True):
        if REFERENCE not in results["methods"]:
            raise ResultsError(f"methods: {name} must hold {REFERENCE!r}, of which barriers are shares, found none")
    rows = [
        [display_name(method), needs(method), *(_cell(results["methods"], method) for results in experiments)]
        for method in in_order(methods or measured)
    ]
    caption = (
        "The barrier that is left, as a share of that without alignment, and seconds a pair; means over held-out "
        "pairs. No figure where a method was not measured."
    )
    return f"{markdown([['method', 'needs', *names], *rows])}\n\n{caption}"


def needs(method: str) -> str:
    """What the stages of a method ask for together.

    >>> needs("weight_matching+refine"), needs("deep_align"), needs("deep_align+refine@5")
    ('inputs, labels', 'an aligner', 'an aligner, inputs, labels')
    """
    known = known_methods()
    asked = {known[name].asks for name, _ in split(method) if name in known}
    # of what has no aligner each stage needs all that an earlier kind does
    data = sorted(asked - {"aligner"}, key=NEEDS.index)[-1:]
    return ", ".join(WORDS[one] for one in (*(asked & {"aligner"}), *data))


def _cell(methods: Mapping[str, Any], method: str) -> str:
    if method not in methods:
        return ""
    share = methods[method]["barrier"]["mean"] / methods[REFERENCE]["barrier"]["mean"]
    seconds = FORMATS["seconds_per_pair"](methods[method]["seconds_per_pair"]["mean"])
    # a number and its unit stay on one line
    return f"{share:.1%}, {seconds}\N{NO-BREAK SPACE}s"
