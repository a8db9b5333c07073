"""Our table beside the paper's, row by row."""

from collections.abc import Mapping
from typing import Any

from dwalign.report.methods import display_name
from dwalign.report.schema import ResultsError
from dwalign.report.tables import markdown

REFERENCE = "activation_matching"


def paper_table(results: Mapping[str, Any], paper: Mapping[str, Any], experiment: str | None = None) -> str:
    """Barriers of the paper and of ours, and both as multiples of activation matching, and seconds a pair; Markdown.

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
    timed = any("seconds" in method for method in theirs["methods"].values())
    heads = ["method", "paper, barrier", "ours, barrier", "paper, x activation matching", "ours, x activation matching"]
    rows = [[*heads, *(["paper, seconds", "ours, seconds"] if timed else [])]]
    mean = lambda method, metric: results["methods"][method][metric]["mean"]
    for method, found in theirs["methods"].items():
        there = method in results["methods"]
        mine = f"{mean(method, 'barrier'):.3f}" if there else "-"
        multiple = f"{mean(method, 'barrier') / mean(REFERENCE, 'barrier'):.2f}" if there else "-"
        row = [
            display_name(method),
            f"{barrier(method):.3f}",
            mine,
            f"{barrier(method) / barrier(REFERENCE):.2f}",
            multiple,
        ]
        if timed:
            row += [f"{found['seconds']:.2f}" if "seconds" in found else "-"]
            row += [f"{mean(method, 'seconds_per_pair'):.2g}" if there else "-"]
        rows.append(row)
    return "\n".join([markdown(rows), "", f"Paper: {theirs['what']} ({paper['source']})."])
