"""Our table beside the paper's, row by row."""

from collections.abc import Mapping
from typing import Any

from dwalign.report.methods import display_name
from dwalign.report.schema import ResultsError

REFERENCE = "activation_matching"


def paper_table(results: Mapping[str, Any], paper: Mapping[str, Any], experiment: str | None = None) -> str:
    """Barriers of the paper and of ours, and both as multiples of activation matching; Markdown.

    Data and scale differ, so that the multiples say more than the figures themselves.

    Args:
      results: content of results.json.
      paper: content of results/paper.json.
      experiment: that of the paper; the one of the same name by default.

    Raises:
      ResultsError: the paper has no such experiment.
    """
    name = experiment or results["experiment"]
    if name not in paper["experiments"]:
        raise ResultsError(f"paper: experiment must be one of {sorted(paper['experiments'])}, found {name!r}")
    theirs = paper["experiments"][name]
    barrier = lambda method: theirs["methods"][method]["barrier"]
    lines = [
        "| method | paper, barrier | ours, barrier | paper, x activation matching | ours, x activation matching |",
        "| - | - | - | - | - |",
    ]
    ours = {method: found["barrier"]["mean"] for method, found in results["methods"].items()}
    for method in theirs["methods"]:
        mine = (f"{ours[method]:.3f}", f"{ours[method] / ours[REFERENCE]:.2f}") if method in ours else ("-", "-")
        ratio = f"{barrier(method) / barrier(REFERENCE):.2f}"
        lines.append(f"| {display_name(method)} | {barrier(method):.3f} | {mine[0]} | {ratio} | {mine[1]} |")
    return "\n".join([*lines, "", f"Paper: {theirs['what']} ({paper['source']})."])
