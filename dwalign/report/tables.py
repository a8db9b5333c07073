"""Results as tables: plain text for the terminal, markdown for documents."""

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "barrier": "barrier",
    "auc": "AUC",
    "midpoint_accuracy": "midpoint accuracy",
    "seconds_per_pair": "seconds a pair",
}
NAMES = {
    "naive": "naive",
    "weight_matching": "weight matching",
    "activation_matching": "activation matching",
    "activation_matching_correlation": "activation matching (correlations)",
    "straight_through": "straight-through",
    "sinkhorn": "Sinkhorn re-basin",
    "refine": "refinement",
    "deep_align": "Deep-Align",
}


def display_name(method: str) -> str:
    """`deep_align+refine@5` as `Deep-Align + refinement (5)`."""
    parts = []
    for part in method.split("+"):
        name, _, count = part.partition("@")
        parts.append(NAMES.get(name, name) + (f" ({count})" if count else ""))
    return " + ".join(parts)


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row a method: mean and 95 % interval of every metric."""
    out = [["method", *COLUMNS.values()]]
    for method, values in results["methods"].items():
        cells = [_cell(values[metric], seconds=metric == "seconds_per_pair") for metric in COLUMNS]
        out.append([display_name(method), *cells])
    return out


def target_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row a target, with the ratio that was reached."""
    out = [["target", "at most", "reached", ""]]
    for target in results.get("targets", []):
        text = f"{display_name(target['method'])} / {display_name(target['against'])}, {COLUMNS[target['metric']]}"
        verdict = "met" if target["met"] else "MISSED"
        out.append([text, f"{target['factor']:g} x", f"{target['ratio']:.2f} x", verdict])
    return out


def text_table(results: Mapping[str, Any]) -> str:
    """Everything for the terminal."""
    parts = [_align(rows(results))]
    if results.get("targets"):
        parts.append(_align(target_rows(results)))
    return "\n\n".join(parts)


def markdown_table(results: Mapping[str, Any]) -> str:
    """Everything for documents."""
    parts = [_markdown(rows(results))]
    if results.get("targets"):
        parts.append(_markdown(target_rows(results)))
    return "\n\n".join(parts)


def _cell(value: Mapping[str, Any], *, seconds: bool) -> str:
    if seconds:
        return f"{value['mean']:.2g}"
    low, high = value["ci95"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def _align(table: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _markdown(table: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " - |" * len(table[0]), *lines[1:]])
