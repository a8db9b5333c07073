"""The story of a merge: how the merged network does, beside its ends and beside an average without matching."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

from dwalign.report.clearness import clearness_figure, clearness_rows
from dwalign.report.figures import interpolation_figure
from dwalign.report.html import Element, element, figure, section, table
from dwalign.report.methods import display_name
from dwalign.report.sharing import draw_sharing
from dwalign.report.story import Story, settings_rows

Record = Mapping[str, Any]
PLAIN, MERGED = "average without matching", "merged"
# what records of earlier versions were judged by
LOSS, ACCURACY = "loss", "accuracy"


def recipe_story(recipe: Record) -> Story:
    """Of OUTPUT.recipe.yaml: the record in it, and what it was made from."""
    title, lead, sections = merge_story(recipe["found"])
    options = dict(recipe.get("options") or {})
    # recipes of earlier versions do not tell
    if recipe["found"].get("judged") and recipe["found"].get("seen", not options.get("test")):
        lead += " Judged on the data that it was matched on, which flatters it."
    read = [[name, digest] for name, digest in dict(recipe.get("read") or {}).items()]
    made = section(
        "Made from",
        table([["file", "SHA-256"], *read]) if read else None,
        element("details", element("summary", "options"), table([["option", "value"], *settings_rows(options)])),
        element("p", f"By dwalign {recipe.get('dwalign', '')}; ", element("code", "dwalign rerun"), " does it again."),
    )
    return Story(title, lead, [*sections, made])


def merge_story(record: Record) -> Story:
    """Of what `dwalign merge` found."""
    judged = record.get("judged") or {}
    sections = [
        *([section("How well it does", table(_judged_rows(record, judged)), *_curves(record))] if judged else []),
        *_clearness(record),
        _matched(record),
        *([section("Arrays and groups", _sharing(record["sharing"]))] if "sharing" in record else []),
    ]
    lead = " ".join([_lead(record, judged), *_doubts(record)])
    return Story(PurePath(record.get("output", "merged")).name, lead, sections)


def _lead(record: Record, judged: Record) -> str:
    """
    >>> one = lambda loss, accuracy: {"loss": loss, "accuracy": accuracy}
    >>> judged = {"a": one(0.1, 0.97), "b": one(0.2, 0.96), PLAIN: one(2.15, 0.31), MERGED: one(0.25, 0.955)}
    >>> print(_lead({}, judged))
    The merged network answers 95.5 % right; its ends 97.0 and 96.0 %, the average without matching 31.0 %. Averaging \
as they are adds 2 to the loss of the ends, of which matching takes away 95 %.
    """
    if not judged:
        return (
            f"{record.get('networks', 2)} networks are one, matched by {display_name(record['method'])}. How well it "
            "does is not known, for there were no labels to judge it by: merge with --test or with labels in --data."
        )
    ends = [found for name, found in judged.items() if name not in (PLAIN, MERGED)]
    share = lambda found: f"{100 * found['accuracy']:.1f}"
    listed = ", ".join(share(end) for end in ends[:-1]) + f" and {share(ends[-1])}"
    merged, plain = judged[MERGED]["loss"], judged[PLAIN]["loss"]
    loss = sum(end["loss"] for end in ends) / len(ends)
    right = f"answers {share(judged[MERGED])} % right"
    if _columns(record)[1] != ACCURACY:
        right = f"meets {share(judged[MERGED])} % of all examples to 0.1"
    answers = f"The merged network {right}; its ends {listed} %, the {PLAIN} {share(judged[PLAIN])} %."
    if merged >= plain:
        return f"{answers} Matching did not help: the loss is {merged:.3g}, and {plain:.3g} without it."
    if plain <= loss:
        return f"{answers} Averaging adds no loss here, matched or not."
    gained = f"{min(1.0, (plain - merged) / (plain - loss)):.0%}".replace("%", " %")
    return (
        f"{answers} Averaging as they are adds {plain - loss:.3g} to the loss of the ends, of which matching takes "
        f"away {gained}."
    )


def _doubts(record: Record) -> Iterator[str]:
    """What the model card says, too."""
    if record.get("stale"):
        yield f"Stale: {record['stale']}."
    if not record.get("certified", True):
        yield "Unchecked: that permuting keeps the function was read off the program and not checked on numbers."


def _judged_rows(record: Record, judged: Record) -> list[list[str]]:
    rows = [[name, f"{found['loss']:.4f}", f"{found['accuracy']:.2%}"] for name, found in judged.items()]
    return [["network", *_columns(record)], *rows]


def _columns(record: Record) -> tuple[str, str]:
    """What it was judged by: of networks that give values squared error, and the share of examples that are met."""
    loss, accuracy = record.get("columns", (LOSS, ACCURACY))
    return loss, accuracy


def _curves(record: Record) -> Iterator[Element]:
    """One figure for each network after the first."""
    for name, sides in record.get("curve", {}).items():
        lines = {"naive": {"curve": sides["before"]}, record["method"]: {"curve": sides["after"]}}
        draw = partial(interpolation_figure, {"methods": lines}, titles=_columns(record))
        middle = lambda line: line["loss"][len(line["loss"]) // 2]
        yield figure(
            draw,
            f"{' and '.join(_columns(record)).capitalize()} between the first network and {name}: half way the loss is "
            f"{middle(sides['after']):.3g} after matching and {middle(sides['before']):.3g} before",
            f"From the first network to {name}, before matching (naive) and after.",
        )


def _clearness(record: Record) -> Iterator[Element]:
    """For each network after the first its groups."""
    networks = record.get("confidence", {})
    parts: list[Element] = []
    for name, found in networks.items():
        drawn = figure(
            partial(clearness_figure, found),
            f"{name}: similarity of partners, margin to the next best and chance to be the right one, a strip a group; "
            "the table holds medians and the right units to expect",
        )
        parts += [element("h3", f"{name}, by {found['of']}"), drawn, table(clearness_rows(found))]
    if parts:
        yield section(
            "How clear the matching is",
            element(
                "p",
                "For each unit of the first network how alike it and its partner are (1: the same; 0: nothing in "
                "common), and how much more alike than the next best. Where that margin is small or negative another "
                "partner would do as well. Networks can merge well with low similarities.",
            ),
            element(
                "p",
                "The chance says how often partners that look like that were the right ones where that is known: in "
                "networks that went on from one in two ways. Networks that were trained apart may have no right "
                "partners; then it says which are clearer, and is no share of anything.",
            ),
            element(
                "p",
                "The dot is the median unit of a group; half of its units lie on the thick line, nine in ten on the "
                "thin one.",
                class_="quiet",
            ),
            *parts,
        )


def _matched(record: Record) -> Element:
    groups = [[name, str(shape[-1]), " x ".join(map(str, shape[:-1]))] for name, shape in record["groups"].items()]
    fixed = [[why, str(count)] for why, count in record.get("fixed", {}).items()]
    unknown = [[name, where] for name, where in record.get("unknown", {}).items()]
    return section(
        "What was matched",
        element(
            "p",
            f"{record['weights']:,} numbers in {record['arrays']} arrays, {record['moving']:.1%} of them in units that "
            f"can be permuted; matched by {display_name(record['method'])}.",
        ),
        table([["group", "units", "in each of"], *groups]),
        element("h3", "What is fixed, and why") if fixed else None,
        table([["why", "dimensions"], *fixed]) if fixed else None,
        element("h3", "Primitives without a rule, which fix what they touch") if unknown else None,
        table([["primitive", "first met"], *unknown]) if unknown else None,
    )


def _sharing(sharing: Record) -> Element:
    arrays, groups = (len(sharing[key]) for key in ("arrays", "groups"))
    alt = f"{arrays} arrays against {groups} groups: a mark where an array carries a group"
    return figure(partial(draw_sharing, sharing), alt)
