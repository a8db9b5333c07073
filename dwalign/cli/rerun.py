"""`dwalign rerun`: do again what a recipe says."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

import dwalign
from dwalign.cli.recipe import read_recipe, sha256

COMMANDS = ("align", "merge", "train")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Run the command of a recipe again, on files that must be those that it was made from."""

    recipe: tyro.conf.Positional[Path]
    """OUTPUT.recipe.yaml"""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """in place of the recipe's own"""
    overwrite: bool = False
    """replace an output that exists"""
    json: bool = False
    """print one JSON object in place of text"""
    dry_run: bool = False
    """say what would be matched, and do nothing"""


def main(asked: Options) -> None:
    """Run the command."""
    recipe = read_recipe(asked.recipe)
    if recipe["command"] not in COMMANDS:
        raise dwalign.files.FileError(
            f"{asked.recipe}: command must be one of {list(COMMANDS)}, found {recipe['command']!r}"
        )
    for file, digest in dict(recipe.get("read") or {}).items():
        if Path(file).is_file() and sha256(Path(file)) != digest:
            raise dwalign.files.FileError(f"{file} must be the file that {asked.recipe} was made from, but has changed")
    command = importlib.import_module(f"dwalign.cli.{recipe['command']}")
    changed = {"overwrite": asked.overwrite, "json": asked.json, "dry_run": asked.dry_run} | (
        {} if asked.output is None else {"output": str(asked.output)}
    )
    command.main(_options(asked.recipe, command.Options, recipe["options"] | _method(recipe) | changed))


def _method(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The method that ran where it was left to the program, of which another version may choose another."""
    told = recipe.get("found")
    found = told.get("method") if isinstance(told, dict) else None
    if recipe["options"].get("method") != "auto" or not isinstance(found, str):
        return {}
    # without an aligner of one's own that was the one that ships
    ships = "deep_align" in found.split("+") and recipe["options"].get("aligner") is None
    return {"method": found} | ({"aligner": "any"} if ships else {})


def _options(file: Path, kind: Any, values: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(name for name in values if name.split(".")[0] not in known):
        raise dwalign.files.FileError(f"{file}: options must be those of this version of dwalign, found {unknown}")
    args: list[str] = []
    for name, value in values.items():
        if value is None or value == []:
            continue
        *outer, last = name.replace("_", "-").split(".")
        flag = "--" + ".".join([*outer, f"no-{last}" if value is False else last])
        args += [] if name == "files" else [flag]
        args += [] if isinstance(value, bool) else map(str, value if isinstance(value, list) else [value])
    return tyro.cli(kind, prog=f"dwalign rerun {file}", args=args)
