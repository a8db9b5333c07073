"""Results as tables: plain text for the terminal, markdown for documents."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from dwalign.report.methods import display_name, in_order

COLUMNS = {
    "barrier": "barrier",
    "auc": "AUC",
    "midpoint_accuracy": "midpoint accuracy",
    "seconds_per_pair": "seconds a pair",
}

# iterations of Sinkhorn re-basin where its name gives none
PLAIN = 1000


def rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row a method: mean and 95 % interval of every metric."""
    out = [["method", *COLUMNS.values()]]
    for method in in_order(results["methods"]):
        values = results["methods"][method]
        cells = [_cell(values[metric], FORMATS.get(metric, _fixed)) for metric in COLUMNS]
        out.append([display_name(method), *cells])
    return out


def target_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header and a row a target, with the ratio that was reached."""
    out = [["target", "at most", "reached", ""]]
    for target in results.get("targets", []):
        text = f"{display_name(target['method'])} / {display_name(target['against'])}, {COLUMNS[target['metric']]}"
        reached = "-" if target["ratio"] is None else f"{_ratio(target['ratio'])} x"
        out.append([text, f"{target['factor']:g} x", reached, "met" if target["met"] else "MISSED"])
    return out


def caption(results: Mapping[str, Any]) -> str:
    """What the figures are means of, and where they were measured."""
    tables = [values["barrier"]["values"] for values in results["methods"].values()]
    pairs, seeds = max((len(table[0]) for table in tables), default=0), max((len(table) for table in tables), default=0)
    environment = results["environment"]
    none = results["config"].get("seeds") == 0
    aligners = "" if none else f" and {seeds} aligner {'seed' if seeds == 1 else 'seeds'}"
    iterations = results["config"].get("sinkhorn_iterations", PLAIN)
    run = any("sinkhorn" in name for name in results["methods"])
    shorter = (
        "" if iterations == PLAIN or not run else f" Sinkhorn re-basin takes {iterations} iterations here, not {PLAIN}."
    )
    cores = f"{environment['cores']} {'core' if environment['cores'] == 1 else 'cores'}"
    return (
        f"{results['experiment']}: means and 95 % intervals over {pairs} held-out pairs{aligners}; "
        f"{cores}, {environment['platform']}, Python {environment['python']}, "
        f"jax {environment['packages'].get('jax', 'unknown')}.{shorter}"
    )


def text_table(results: Mapping[str, Any]) -> str:
    """Everything for the terminal."""
    parts = [caption(results), _align(rows(results))]
    if results.get("targets"):
        parts.append(_align(target_rows(results)))
    return "\n\n".join(parts)


def markdown_table(results: Mapping[str, Any]) -> str:
    """Everything for documents."""
    parts = [markdown(rows(results)), caption(results)]
    if results.get("targets"):
        parts.append(markdown(target_rows(results)))
    return "\n\n".join(parts)


def markdown(table: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A header and rows as a table of Markdown; columns that are `numbers` stand to the right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    marks = ("-:" if k in numbers else "-" for k in range(len(table[0])))
    return "\n".join([lines[0], "| " + " | ".join(marks) + " |", *lines[1:]])


def _cell(value: Mapping[str, Any], show: Callable[[float], str]) -> str:
    if sum(len(row) for row in value["values"]) < 2:
        return show(value["mean"])
    return f"{show(value['mean'])} [{', '.join(show(end) for end in value['ci95'])}]"


def _fixed(value: float) -> str:
    return f"{value:.3f}"


def _ratio(value: float) -> str:
    """Digits enough to tell the ratio from a limit such as 0.01."""
    return f"{value:.2f}" if value >= 1 else f"{value:#.3g}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:#.2g}"


FORMATS = {"seconds_per_pair": _time}


def _align(table: list[list[str]]) -> str:
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
