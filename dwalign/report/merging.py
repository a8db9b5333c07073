"""Merging of many networks as tables: accuracy and loss against how many there are; what REPAIR wins back."""

from collections.abc import Mapping, Sequence
from typing import Any

from dwalign.report.tables import markdown


def merging_table(results: Mapping[str, Any], network: str | None = None) -> str:
    """`merging_rows` as Markdown."""
    return "\n".join([markdown(merging_rows(results, network)), "", merging_caption(results)])


def merging_caption(results: Mapping[str, Any]) -> str:
    """What the cells of `merging_rows` are."""
    return (
        f"{results['experiment']}: accuracy (→ accuracy after REPAIR; loss), means over up to "
        f"{results['config']['sets']} sets of networks, full test set."
    )


def merging_rows(results: Mapping[str, Any], network: str | None = None) -> list[list[str]]:
    """One row a way to merge, one column a number of networks: accuracy, that after REPAIR, and loss.

    `network` is one of those of the experiment; all by default, one below the other.
    """
    counts = [str(count) for count in results["config"]["counts"]]
    chosen = list(results["networks"]) if network is None else [network]
    rows = [["network", "merged by", *(f"{count} networks" for count in counts)]]
    for name in chosen:
        for method, found in results["networks"][name].items():
            rows.append([name, method, *(_cell(found.get(count)) for count in counts)])
    return rows


def repair_table(results: Mapping[str, Any]) -> str:
    """`repair_rows` as Markdown."""
    caption = f"{results['experiment']}: won back is the share of the accuracy that alignment alone leaves lost."
    return "\n".join([markdown(repair_rows(results)), "", caption])


def repair_rows(results: Mapping[str, Any]) -> list[list[str]]:
    """One row an alignment of two networks and a way to repair their mean: accuracy and share won back."""
    rows = [["network", "aligned by", "repaired", "accuracy", "won back"]]
    for network, aligned in results["repair"].items():
        for method, found in aligned.items():
            for variant, one in found.items():
                accuracy, share = (one.get(key) for key in ("accuracy", "won_back"))
                rows.append([network, method, variant, _interval(accuracy), _interval(share) if share else ""])
    return rows


def merging_series(results: Mapping[str, Any], shown: Sequence[str]) -> dict[str, Any]:
    """The accuracies of these ways to merge, after REPAIR, as `series_figure` takes them, a panel a network."""
    accuracy = lambda found: {
        count: one["repaired" if "repaired" in one else "accuracy"] for count, one in found.items()
    }
    return {
        "axis": "networks in one",
        "settings": results["config"]["counts"],
        "panels": {
            f"{name}, accuracy after REPAIR": {way: accuracy(ways[way]) for way in shown if way in ways}
            for name, ways in results["networks"].items()
        },
    }


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    after = f" → {one['repaired']['mean']:.3f}" if "repaired" in one else ""
    return f"{one['accuracy']['mean']:.3f}{after}; {one['loss']['mean']:.2f}"


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['mean']:.3f} [{one['ci95'][0]:.3f}, {one['ci95'][1]:.3f}]"
