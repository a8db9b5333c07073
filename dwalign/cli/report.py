"""`dwalign report`: one HTML page of a merge or an experiment."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import tyro

import dwalign
from dwalign.cli import options
from dwalign.cli.recipe import read_recipe
from dwalign.extras import load

RECIPES = {".yaml", ".yml"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Write one HTML page that says whether it worked, with tables and figures in it; it needs no network.

    Of an experiment it shows what was measured, targets that were missed among it; of a merge how the merged network
    does beside its ends, and, where it was merged with --report, how clear the matching of each group is.
    """

    source: tyro.conf.Positional[Path]
    """folder of a run (its results.json), a results file of an experiment, or OUTPUT.recipe.yaml of a merge"""
    output: options.Output
    """where the page goes; one that is there is replaced"""


def main(asked: Options) -> None:
    """Run the command."""
    options.check_apart("output", asked.output, [asked.source])
    write_page(asked.output, read_source(asked.source))
    print(asked.output)


def read_source(source: Path) -> dict:
    """Results or a recipe, by the ending of the file.

    Raises:
      ResultsError, FileError: it is neither, or cannot be read.
    """
    if source.suffix in RECIPES:
        return read_recipe(source)
    return dwalign.report.read_json(source / "results.json" if source.is_dir() else source)


def check_page(file: Path, overwrite: bool, taken: Iterable[Path]) -> None:
    """Raise unless a page can be made, and written here."""
    load("matplotlib")
    options.check_free("report", file, overwrite, taken)


def write_page(output: Path, results: dict) -> None:
    """The page of `results` as a file, whole or not at all."""
    dwalign.report.write_whole(output, dwalign.report.page(results))
