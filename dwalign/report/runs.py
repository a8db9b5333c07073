"""The folder of a run: made, continued, or put aside."""

import json
from pathlib import Path
from typing import Any

from dwalign.files import unsealed
from dwalign.report.results import write_json
from dwalign.report.schema import ResultsError


class RunError(RuntimeError):
    """A run folder that cannot be used as asked."""


def open_run(folder: str | Path, config: dict[str, Any], *, resume: bool = False) -> Path:
    """Make `folder` ready for a run of `config` and write config.json into it.

    A run that is there already is kept: it is renamed to `<folder>.1`, `<folder>.2`, ... unless `resume`.

    Raises:
      RunError: no permission to write, or `resume` with a broken or another configuration; the message names what
        differs.
    """
    folder = Path(folder)
    file = folder / "config.json"
    wanted = json.loads(json.dumps(config))
    try:
        if file.exists() and resume:
            stored, given = _flat(_read_config(file)), _flat(wanted)
            differs = [f"{k} was {stored.get(k)!r}, is {v!r}" for k, v in given.items() if stored.get(k) != v]
            if differs:
                raise RunError(
                    f"{folder} holds a run of another configuration ({'; '.join(differs)}); give the same options to "
                    "resume it, or leave out --resume to start a new run beside it"
                )
        elif file.exists():
            number = 1
            while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
                number += 1
            folder.rename(aside)
            print(f"the run in {folder} is kept as {aside} (--resume would have continued it)")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
    except (OSError, ResultsError) as error:
        raise RunError(f"{folder} must be a folder that can be written: {error}") from error
    return folder


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Options by the names that the command line gives them, such as `training.steps`."""
    parts = {name: _flat(value) if isinstance(value, dict) else {"": value} for name, value in config.items()}
    return {f"{name}.{rest}".rstrip("."): value for name, part in parts.items() for rest, value in part.items()}


def _read_config(file: Path) -> dict[str, Any]:
    try:
        stored = unsealed(json.loads(file.read_text()))
    except ValueError as error:
        raise RunError(f"{file} must be the configuration of a run as JSON, but is broken: {error}") from error
    if not isinstance(stored, dict):
        raise RunError(f"{file} must be the configuration of a run, found a {type(stored).__name__}")
    return stored
