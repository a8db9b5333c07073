"""Beside each output: the recipe that makes it again, and a card that says what it is."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dwalign

ELSEWHERE = {"json", "dry_run", "report"}
# what the plan expects here and now
RECKONED = {"seconds", "compilation"}


def beside(output: Path, ending: str) -> Path:
    """The file beside an output: merged.safetensors, merged.recipe.yaml."""
    return output.parent / (f"{output.name.removesuffix(output.suffix).removesuffix('.weights')}.{ending}")


def besides(output: Path) -> tuple[Path, Path]:
    """Where its recipe and its card go."""
    return beside(output, "recipe.yaml"), beside(output, "md")


def check_beside(output: Path) -> None:
    """Raise `FileError` where a recipe or card would take the place of anything but those of this output."""
    for there, whose in zip(besides(output), (_whose_recipe, _whose_card), strict=True):
        if there.exists() and whose(there) != output.name:
            raise dwalign.files.FileError(
                f"{there} would be replaced, but is not of {output.name}; choose another --output, or move it"
            )


def _whose_recipe(file: Path) -> str | None:
    with contextlib.suppress(dwalign.files.FileError):
        return Path(str(read_recipe(file)["options"].get("output"))).name
    return None


def _whose_card(file: Path) -> str | None:
    with contextlib.suppress(OSError), file.open(errors="replace") as lines:
        return next(lines, "").strip().removeprefix("# ")
    return None


def write_recipe(command: str, options: Any, files: Sequence[Path], found: Mapping[str, Any]) -> Path:
    """Write OUTPUT.recipe.yaml: the command with its options, what it read by SHA-256, and what it found."""
    import yaml

    asked = {name: value for name, value in _flat(dataclasses.asdict(options)).items() if name not in ELSEWHERE}
    content = {
        "dwalign": dwalign.__version__,
        "command": command,
        "options": asked,
        "read": {str(part): sha256(part) for file in files for part in _parts(file)},
        "found": {name: value for name, value in found.items() if name not in RECKONED},
    }
    recipe = beside(options.output, "recipe.yaml")
    text = yaml.safe_dump(dwalign.files.sealed(content), sort_keys=False)
    dwalign.files.write_bytes(recipe, text.encode())
    return recipe


def read_recipe(file: Path) -> dict[str, Any]:
    """What `write_recipe` wrote.

    Raises:
      FileError: the file is missing, or holds something else.
    """
    import yaml

    try:
        recipe = dwalign.files.unsealed(yaml.safe_load(file.read_text()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise dwalign.files.FileError(
            f"{file} must be a recipe that dwalign wrote ({dwalign.files.said(error)})"
        ) from error
    whole = isinstance(recipe, dict) and {"command", "options"} <= set(recipe)
    parts = [recipe["options"], recipe.get("read") or {}] if whole else []
    if not whole or not all(isinstance(part, dict) and all(isinstance(name, str) for name in part) for part in parts):
        raise dwalign.files.FileError(f"{file} must be a recipe that dwalign wrote, with a command and its options")
    return recipe


def write_card(output: Path, title: str, paragraphs: Sequence[str]) -> Path:
    """Write OUTPUT.md, a model card."""
    card = beside(output, "md")
    dwalign.files.write_bytes(card, "\n\n".join([f"# {title}", *paragraphs, ""]).encode())
    return card


def _parts(file: Path) -> list[Path]:
    """The files of weights in a folder, or the one file; what Orbax keeps in folders has checksums of its own."""
    return sorted(file.glob("*.safetensors")) if file.is_dir() else [file]


def sha256(file: Path) -> str:
    """Of a file, read a piece at a time."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as the command line calls them, `training.steps`, in values that YAML knows."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{rest}": one for rest, one in _flat(value).items()}
        else:
            plain = lambda one: str(one) if isinstance(one, Path) else one
            flat[name] = [plain(one) for one in value] if isinstance(value, tuple) else plain(value)
    return flat
