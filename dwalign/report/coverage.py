"""How much of the networks of others is read, as a table."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dwalign.report.tables import markdown


def coverage_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """A header, and one row a model that could be built."""
    if results.get("config", {}).get("kinds"):
        return _kinds_rows(results)
    rows = [["package", "model", "groups", "weights that move", "infer, s", "certify, s", "verdict"]]
    judged = [row for row in results["models"] if row["verdict"] != "not built"]
    for row in judged:
        seconds = row.get("seconds", {})
        figures = (
            [
                str(row["groups"]),
                f"{row['moving']:.0%}",
                *(f"{seconds[stage]:.2f}" for stage in ("infer_spec", "certify")),
            ]
            if "groups" in row
            else [""] * 4
        )
        rows.append([row["package"], row["model"], *figures, _verdict(row)])
    return rows


def _kinds_rows(results: Mapping[str, Any]) -> list[list[str]]:
    head = ["package", "model", "groups by kind", "free numbers", "of the weights", "infer, s", "of all kinds, s"]
    rows = [[*head, "verdict"]]
    for row in results["models"]:
        if row["verdict"] == "not built":
            continue
        figures = [""] * 5
        if "kinds" in row:
            kinds = ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items() if count)
            share = f"{row['free'] / max(1, row['weights']):.2%}"
            times = (f"{row['seconds'][kinds]:.2f}" for kinds in ("permutation", "all"))
            figures = [kinds or "none", str(row["free"]), share, *times]
        rows.append([row["package"], row["model"], *figures, _verdict(row)])
    return rows


def coverage_table(results: Mapping[str, Any]) -> str:
    """`coverage_rows` as Markdown, and the count of it all."""
    numbers = range(3, 7) if results.get("config", {}).get("kinds") else range(2, 6)
    return "\n".join([markdown(coverage_rows(results), numbers=numbers), "", coverage_line(results)])


def coverage_line(results: Mapping[str, Any]) -> str:
    """What came out of it in one sentence, with the versions."""
    verdicts = Counter(row["verdict"] for row in results["models"])
    built = len(results["models"]) - verdicts.pop("not built", 0)
    tried = [row["recovered"] for row in results["models"] if row.get("recovered") is not None]
    counts = ", ".join(
        f"{verdicts.get(name, 0)} {name}" for name in ("complete", "missed", "refused", "wrong", "failed")
    )
    needs = results["environment"]["needs"]
    versions = ", ".join(f"{name} {version}" for name, version in needs.items() if version)
    left_out = Counter(row["package"] for row in results["left_out"])
    not_tried = f" Not tried: {', '.join(f'{n} of {name}' for name, n in left_out.items())}." if left_out else ""
    found = f" a hidden permutation came back in {sum(tried)} of {len(tried)}." if tried else ""
    if results.get("config", {}).get("kinds"):
        found = _kinds_line([row for row in results["models"] if "kinds" in row])
    return f"{results['experiment']}: {built} models, {counts};{found}{not_tried} {versions}."


def _kinds_line(rows: Sequence[Mapping[str, Any]]) -> str:
    groups = Counter[str]()
    for row in rows:
        groups.update(row["kinds"])
    larger = sum(any(count for kind, count in row["kinds"].items() if kind != "permutation") for row in rows)
    counts = ", ".join(f"{count} {kind}" for kind, count in groups.items() if count)
    one, all_ = (sum(row["seconds"][kinds] for row in rows) for kinds in ("permutation", "all"))
    return (
        f" {larger} have symmetries beyond permutations; kinds of the {groups.total()} groups: {counts}. Reading all "
        f"kinds takes {all_ / one:.2f} times as long as permutations alone."
    )


def _verdict(row: Mapping[str, Any]) -> str:
    if row["verdict"] in ("complete", "wrong"):
        return row["verdict"]
    if row["verdict"] == "missed":
        reasons = Counter(_rule(note["why"]) for note in row["missed"])
        return "missed: " + "; ".join(f"{count} x {why}" if count > 1 else why for why, count in reasons.items())
    return f"{row['verdict']}: {_plain(row['message'])[:120]}"


def _rule(why: str) -> str:
    """The reason without the line of somebody's program at which it arose."""
    return _plain(re.sub(r" at \S+:\d+", "", why))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "/").strip()
