"""A JSON file that says what the others in its folder are, with a checksum; who adds to them must say the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dwalign.files.atomic import write_bytes
from dwalign.files.checksums import sealed, unsealed
from dwalign.files.errors import FileError, reading, writing


def read_described(file: Path) -> dict[str, Any] | None:
    """What the file says, None where there is none.

    Raises:
      FileError: it is damaged.
    """
    if not file.exists():
        return None
    with reading(file, "the description of what lies beside it"):
        return unsealed(json.loads(file.read_text()))


def describe(file: Path, about: Mapping[str, Any]) -> None:
    """Write the file and its folder, or see that the one that is there says the same.

    Raises:
      FileError: it says something else, is damaged or cannot be written.
    """
    check_described(file, about)
    if not file.exists():
        with writing(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, (json.dumps(sealed(about), indent=1) + "\n").encode())


def check_described(file: Path, about: Mapping[str, Any]) -> None:
    """Raise `FileError` if the file is there and says anything else of what `about` names."""
    found, about = read_described(file), json.loads(json.dumps(about))
    wrong = [name for name in about if found is not None and found.get(name) != about[name]]
    if found is not None and wrong:
        raise FileError(
            f"{file} is of another call: {wrong[0]} must be {str(about[wrong[0]])[:200]}, found "
            f"{str(found.get(wrong[0]))[:200]}; choose another folder"
        )


def check_sizes(file: Path, sizes: Any) -> tuple[int, ...]:
    """How many things each of the other files holds, if that is what they are; else `FileError`."""
    if not isinstance(sizes, list) or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise FileError(f"{file} must say how much each file holds, numbers of at least 1, found {sizes!r:.80}")
    return tuple(sizes)
