"""`dwalign merge`: two or more networks into one file."""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import dwalign
from dwalign.cli import options
from dwalign.cli.between import between
from dwalign.cli.data import read_data, task_of
from dwalign.cli.judged import Judged, columns, judge, judged_table
from dwalign.cli.narrate import answer, size, stage, weight_of
from dwalign.cli.plan import UNCHECKED, plan, plan_text
from dwalign.cli.recipe import besides, read_recipe, write_card, write_recipe
from dwalign.cli.report import check_page, write_page
from dwalign.cli.subject import Subject, choose_method, of_kinds, open_subject

PyTree = Any
WITHOUT_DATA = ("nothing", "weights")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.Matched):
    """Merge two or more networks of one architecture into one file.

    The units of each network are brought into the order of the first, weights are averaged, and batch statistics
    computed anew on the data. The output is laid out as the first file is: types, order, metadata, shards. A recipe
    that makes it again and a model card lie beside it.
    """

    files: options.Files
    """weights of the networks: safetensors (a file, or a folder of one or of shards), .npz, .msgpack, an Orbax folder,
    .weights.h5, .keras, .pt"""
    output: options.Output
    """where the merged weights go"""
    weights: tuple[float, ...] = ()
    """of the networks in the average, one a file; equal if not given"""
    keep: tuple[str, ...] = ()
    """arrays that are left as the first network has them: patterns of their names, such as '*fc.weight*', or groups"""
    layers: tuple[str, ...] = ()
    """of two networks, PATTERN=WEIGHT of the second in some of the arrays, such as '*layer4*=0.3'"""
    how: Literal["auto", "first", "running_mean", "merge_many", "universe", "features"] = "auto"
    """of more than two networks: each is matched to the first, to the mean of those before it, to that of all others
    until none moves (MergeMany), or all at once by their weights (universe, C2M3) or by the features that methods
    compare (features); auto is universe where weights are read, else MergeMany"""
    test: Path | None = None
    """.npz that the result is judged on, in place of --data"""
    report: Path | None = None
    """also write one HTML page, such as page.html: how the result does, and how clear the matching of each group is"""
    overwrite: bool = False
    """replace an output that exists"""


def main(asked: Options) -> None:
    """Run the command."""
    if len(asked.files) < 2:
        raise ValueError(f"FILES must be two networks or more, got {len(asked.files)}")
    if asked.kinds != "permutation" and len(asked.files) > 2:
        raise ValueError(
            f"--kinds {asked.kinds} is for two networks, got {len(asked.files)} files; merge two at a time"
        )
    layers = _shares(asked)
    if asked.report is not None:
        taken = (*options.read_by(asked), asked.output, *besides(asked.output))
        check_page(asked.report, asked.overwrite, taken)
    test = None if asked.test is None else read_data(asked.test)
    if test is not None and test.labels is None:
        raise dwalign.files.FileError(
            f"--test {asked.test} must hold `labels` to judge networks by, found inputs alone"
        )
    subject = open_subject(asked, asked.files, output=asked.output, like=0, overwrite=asked.overwrite)
    subject = of_kinds(subject, asked.kinds)
    for option, named in {"--layers": layers, "--keep": dict.fromkeys(asked.keep, 0.0)}.items():
        dwalign.symmetry.leaf_weights(subject.network.spec, named, caller=option)
    method = choose_method(asked, subject)
    if asked.test is not None:
        subject = subject._replace(task=task_of(asked.test, test)) if subject.data is None else subject
        subject.check_data(asked.test, test)
    stale = _stale(subject)
    if stale:
        warnings.warn(stale, stacklevel=2)
    # of what is said here the library need not warn again
    renew = (lambda params: params) if stale else None
    found = plan(subject, method, certified=subject.certified(asked))
    if asked.dry_run:
        answer(found, plan_text(found), as_json=asked.json)
        return
    params = subject.in_memory(method)
    with stage(f"matching by {method.label}"), subject.naming():
        merged = _merge(asked, subject, params, method, layers, renew)
    with stage(f"writing {asked.output}"):
        written = subject.write(asked.output, merged.params, like=0, overwrite=asked.overwrite)
    judged = _judge(subject, params, written, test or subject.data, renew)
    found |= {
        "stale": stale,
        "output": str(asked.output),
        "judged": {name: one._asdict() for name, one in judged.items()},
        "columns": list(columns(subject)),
        # what it is judged on
        "seen": asked.test is None and method.needs not in WITHOUT_DATA,
    }
    if asked.report is not None:
        found |= between(subject, params, merged.perms, test or subject.data)
    recipe = write_recipe("merge", asked, (*asked.files, *filter(None, (asked.data, asked.test))), found)
    card = write_card(asked.output, asked.output.name, _card(asked, found, method, judged))
    if asked.report is not None:
        write_page(asked.report, read_recipe(recipe))
    text = [f"{asked.output}, {size(weight_of(asked.output))}; {recipe.name} makes it again, {card.name} describes it"]
    if not found["certified"]:
        text.append(f"unchecked: {UNCHECKED}")
    if stale:
        text.append(f"stale: {stale}")
    answer(found, "\n".join([judged_table(subject, judged)] * bool(judged) + text), as_json=asked.json)


def _merge(
    asked: Options, subject: Subject, params: tuple[PyTree, ...], method: Any, layers: Mapping[str, float], renew: Any
) -> Any:
    network, common = subject.network, {"data": subject.data, "task": subject.task, "key": subject.key}
    if len(params) == 2:
        shares = asked.weights or (1.0, 1.0)
        perms = dwalign.align(network, *params, method, **common, certified=subject.certified(asked)).perms
        weight = {"*": shares[1] / sum(shares), **layers}
        merged = dwalign.average(
            network, *params, perms, weight=weight, keep=asked.keep, data=subject.data, renew=renew
        )
        return dwalign.merging.Merged(merged, (dwalign.identity(network.spec), perms))
    if subject.certified(asked):
        dwalign.certify(network.spec, network.apply, params[0], network.example)
    how = asked.how
    if how == "auto":
        how = "universe" if method.needs in WITHOUT_DATA else "merge_many"
    weights = asked.weights or None
    settings = dict(how=how, weights=weights, keep=asked.keep, renew=renew)
    return dwalign.merging.merge_many(network, params, method, **settings, **common)


def _stale(subject: Subject) -> str:
    """Which batch statistics of the result nothing renews, and what would; empty where there are none."""
    network = subject.network
    names = dwalign.merging.find_stale(network.spec, network.params)
    if not names or (network.train is not None and subject.data is not None):
        return ""
    how = (
        "pass --data, an .npz with training inputs, on which they are"
        if network.train is not None
        else "how is not known for this model: run it as in training on its data, and change no weights"
    )
    return f"the statistics {names} are averaged, but must be computed anew for merged weights; {how}"


def _shares(asked: Options) -> dict[str, float]:
    """What --layers says, when it and --weights are shares."""
    if asked.weights and len(asked.weights) != len(asked.files):
        raise ValueError(f"--weights must be one number a file, got {len(asked.weights)} for {len(asked.files)} files")
    if asked.weights and not (all(0 <= one < math.inf for one in asked.weights) and any(asked.weights)):
        raise ValueError(
            f"--weights must be finite, none below 0 and one above, got {' '.join(map(str, asked.weights))}"
        )
    if asked.layers and len(asked.files) != 2:
        raise ValueError(f"--layers is for two networks, got {len(asked.files)} files")
    return dict(map(_layer, asked.layers))


def _layer(text: str) -> tuple[str, float]:
    pattern, _, weight = text.rpartition("=")
    with contextlib.suppress(ValueError):
        if 0 <= float(weight) <= 1:
            return pattern, float(weight)
    raise ValueError(f"--layers must be PATTERN=WEIGHT, such as '*layer4*=0.3', a weight from 0 to 1, got {text!r}")


def _judge(subject: Subject, params: tuple[PyTree, ...], merged: PyTree, data: Any, renew: Any) -> dict[str, Judged]:
    """The networks, their average as they are, and the merged one; nothing without labels."""
    if data is None or data.labels is None:
        return {}
    plain = dwalign.merging.merge_many(
        subject.network, params, "naive", how="first", data=subject.data, renew=renew
    ).params
    return judge(subject, {**subject.named(params), "average without matching": plain, "merged": merged}, data)


def _card(asked: Options, found: Mapping[str, Any], method: Any, judged: Mapping[str, Judged]) -> list[str]:
    names = ", ".join(file.name for file in asked.files)
    about = (
        f"The networks {names} ({asked.network}) as one: units matched by {method.label}, weights averaged"
        f"{' with the weights ' + ', '.join(map(str, asked.weights)) if asked.weights else ''}. "
        f"{found['moving']:.1%} of the numbers lie on axes that were matched."
    )
    lines = [f"| {name} | {one.loss:.4f} | {one.accuracy:.4f} |" for name, one in judged.items()]
    rows = "\n".join([f"| network | {' | '.join(found['columns'])} |", "| - | - | - |", *lines])
    where = f"Judged on {asked.test or asked.data}{', which it was matched on' * found['seen']}." if judged else ""
    doubts = [] if found["certified"] else [f"Unchecked: {UNCHECKED}."]
    doubts += [f"Stale: {found['stale']}."] if found["stale"] else []
    return [about, *([rows, where] if judged else []), *doubts, f"Made by dwalign {dwalign.__version__}."]
