"""The stories of experiments, one for each kind of results file."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from dwalign.report.chance import architecture_rows, chance_caption, chance_figure, chance_rows
from dwalign.report.coverage import coverage_line, coverage_rows
from dwalign.report.figures import interpolation_figure, quality_figure
from dwalign.report.forecast import forecast_figure, forecast_rows
from dwalign.report.html import element, figure, section, table
from dwalign.report.maps import maps_figure, maps_rows
from dwalign.report.merging import merging_caption, merging_rows, repair_rows
from dwalign.report.methods import display_name
from dwalign.report.recovery import recovery_figure, recovery_rows
from dwalign.report.schema import validate
from dwalign.report.series import series_figure, series_rows
from dwalign.report.story import Story, made_with
from dwalign.report.tables import caption, rows, target_rows

Results = Mapping[str, Any]
NAIVE = "naive"


def methods_story(results: Results) -> Story:
    """What methods make of pairs of networks: results.json of `make_results`."""
    validate(results, "results")
    barrier = lambda method: results["methods"][method]["barrier"]["mean"]
    best = min(results["methods"], key=barrier)
    parts = [
        f"Of {len(results['methods'])} methods {display_name(best)} leaves the lowest barrier, {barrier(best):.3g}"
    ]
    if NAIVE in results["methods"]:
        parts.append(f", where networks that are left as they are have one of {barrier(NAIVE):.3g}")
    sections = [
        section("Methods", table(rows(results), caption(results))),
        section("The way from one network to the other", _curves(results)),
        section("Quality against time", _quality(results)),
    ]
    if results.get("targets"):
        sections.insert(0, section("Targets", table(_marked(target_rows(results)))))
    lead = "".join([*parts, ". ", *_targets(results)])
    return Story(results["experiment"], lead, sections + made_with(results))


def _targets(results: Results) -> list[str]:
    targets = results.get("targets", [])
    missed = [target["text"] for target in targets if not target["met"]]
    if not targets:
        return []
    count = f"{len(targets) - len(missed)} of {len(targets)} targets are met"
    return [f"{count}; MISSED: {'; '.join(missed)}." if missed else f"{count}."]


def _marked(table: list[list[str]]) -> list[list[Any]]:
    """Whether targets are met stands out."""
    mark = lambda text: element("span", text, class_=text.lower())
    return [table[0], *([*cells, mark(verdict)] for *cells, verdict in table[1:])]


def _curves(results: Results):
    return figure(
        partial(interpolation_figure, results),
        f"Loss and accuracy between two networks, a line for each of {len(results['methods'])} methods; the table of "
        "methods holds their barriers",
        "Means over pairs (and aligner seeds) with 95 % intervals as bands; the names stand in the order of the lines "
        "half way.",
    )


def _quality(results: Results):
    return figure(
        partial(quality_figure, results),
        "Barrier against seconds a pair, a point a method, both logarithmic; the table of methods holds the values",
        "Down and left is better. Barriers below 0.0001 are drawn there.",
    )


def series_story(results: Results) -> Story:
    """What was measured at several settings."""
    about = f"{', '.join(results['panels'])} for each {results['axis']}"
    said = results.get("caption", f"{about}.").removeprefix(f"{results['experiment']}: ")
    lead, under = (results["question"], said) if "question" in results else (said, None)
    return Story(
        results["experiment"],
        lead[:1].upper() + lead[1:],
        [
            section("In figures", table(series_rows(results), under)),
            section("In a picture", figure(partial(series_figure, results), f"{about}; the table holds the values")),
            *made_with(results),
        ],
    )


def recovery_story(results: Results) -> Story:
    """How much of a planted permutation methods find."""
    clean = list(results["config"]["noise"]).index(0.0)
    found = Counter(
        {
            method: sum(network[method]["draws"][clean] == 1 for network in results["recovery"].values())
            for method in next(iter(results["recovery"].values()))
        }
    )
    most = max(found.values())
    best = " and ".join(display_name(method) for method in found if found[method] == most)
    where = f"in every draw without noise, on {most} of {len(results['recovery'])} networks."
    if "left" in next(iter(results["recovery"].values()))[next(iter(found))]:
        lead = f"{best} finds hidden orders, signs, scales and maps, {where}"
        under = "The share of draws in which the copy came back onto the network, without noise."
        return Story(
            results["experiment"],
            lead[:1].upper() + lead[1:],
            [section("Copies brought back", table(recovery_rows(results), under)), *made_with(results)],
        )
    lead = f"Of {len(found)} methods {best} find most: every unit of a hidden permutation, {where}"
    under = "The share of draws of which every unit was found, without noise."
    alt = "For each method a map of networks against noise: the share of units in their place, as numbers in the cells"
    return Story(
        results["experiment"],
        lead,
        [
            section("All units found", table(recovery_rows(results), under)),
            section("Units found, with noise", figure(partial(recovery_figure, results), alt)),
            *made_with(results),
        ],
    )


def maps_story(results: Results) -> Story:
    """What distances tell about a zoo."""
    precision = {method: found["precision"] for method, found in results["maps"].items()}
    best = max(precision, key=lambda method: precision[method])
    lead = (
        f"Distances after {display_name(best)} tell the labels of {len(results['labels'])} networks best: retrieval "
        f"precision {precision[best]:.2f}"
    )
    lead += f", where networks as they are have {precision[NAIVE]:.2f}." if NAIVE in precision else "."
    alt = "A map of the networks for each method, coloured by label; networks that lie together have small distances"
    return Story(
        results.get("experiment", "Networks as points"),
        lead,
        [
            section("What distances tell", table(maps_rows(results))),
            section("Maps", figure(partial(maps_figure, results), alt)),
            *made_with(results),
        ],
    )


def coverage_story(results: Results) -> Story:
    """How much of the networks of others is read."""
    verdicts = ("complete", "missed", "refused", "wrong", "failed", "not built")
    counts: dict[str, Counter] = {}
    for row in results["models"]:
        counts.setdefault(row["package"], Counter())[row["verdict"]] += 1
    by_package = [[name, *(str(found[one] or "") for one in verdicts)] for name, found in counts.items()]
    total = Counter(row["verdict"] for row in results["models"])
    others = "".join(f", {total[one]} {one}" for one in verdicts[1:-1] if total[one])
    built = total.total() - total["not built"]
    lead = f"Of {built} models of other libraries {total['complete']} are read completely{others}."
    return Story(
        results["experiment"],
        lead,
        [
            section("By package", table([["package", *verdicts], *by_package], coverage_line(results))),
            section("All models", table(coverage_rows(results))),
            *made_with(results),
        ],
    )


def merging_story(results: Results) -> Story:
    """How many networks merge, and what REPAIR wins back."""
    most = str(max(results["config"]["counts"]))
    best = {}
    for network, ways in results["networks"].items():
        after = {way: found[most].get("repaired") for way, found in ways.items() if most in found}
        merged = {way: one["mean"] for way, one in after.items() if one is not None}
        if merged:
            best[network] = max(merged.items(), key=lambda item: item[1])
    told = "; ".join(f"{network}: {way}, {accuracy:.1%} right" for network, (way, accuracy) in best.items())
    sections = [section("Networks in one", table(merging_rows(results), merging_caption(results)))]
    if results["repair"]:
        sections.append(section("What REPAIR wins back", table(repair_rows(results))))
    return Story(results["experiment"], f"Best of {most} networks in one, {told}.", sections + made_with(results))


def forecast_story(results: Results) -> Story:
    """Barriers, and what was forecast of them."""
    unseen = next(row for row in results["rows"] if row["from"] == "inputs" and row["architectures"] == "unseen")
    lead = (
        f"From inputs without labels {unseen['inside']:.1%} of the barriers of unseen architectures lie inside an "
        f"interval for {results['level']:.0%}; typically the two are a factor of {unseen['factor']:.2f} apart."
    )
    alt = "Barrier against forecast, a point a pair of networks, both logarithmic; the table says how many lie inside"
    sections = [
        section("Forecasts", table(forecast_rows(results))),
        section("In a picture", figure(partial(forecast_figure, results), alt)),
    ]
    return Story(results["experiment"], lead, sections + made_with(results))


def chance_story(results: Results) -> Story:
    """How often partners are the right ones, and how often that was foreseen."""

    def foreseen(of):
        found = results["whole"][of]
        return (
            f"{found['chance']:.1%} of the partners were to be right, and {found['right']:.1%} were; the calibration "
            f"error is {100 * found['error']:.1f} points"
        )

    lead = f"On unseen architectures, from weights, {foreseen('weights')}. From activations {foreseen('activations')}."
    bent = " and ".join(f"{100 * found['error']:.1f} from {of}" for of, found in results["isotonic"].items())
    alt = "The share of partners that was right against the chance, a line a method; the table holds the errors"
    sections = [
        section("In a picture", figure(partial(chance_figure, results), alt)),
        section("By method", table(chance_rows(results), chance_caption(results))),
        section(
            "By architecture",
            table(
                architecture_rows(results),
                "Matched by the methods that the curve is for; one that is seen is judged by a curve from the others.",
            ),
            element("p", f"With a monotone correction of the curve, from the architectures seen, the error is {bent}."),
        ),
    ]
    return Story(results["experiment"], lead, sections + made_with(results))


def paper_story(results: Results) -> Story:
    """Figures of the paper, which ours are compared to."""
    columns = ("barrier", "auc", "seconds")
    figures = lambda found: [f"{found[column]:g}" if column in found else "" for column in columns]
    sections = [
        section(
            name,
            table(
                [
                    ["method", *columns],
                    *([display_name(method), *figures(found)] for method, found in one["methods"].items()),
                ],
                one["what"],
            ),
        )
        for name, one in results["experiments"].items()
    ]
    return Story("Figures of the paper", results["source"], sections)
