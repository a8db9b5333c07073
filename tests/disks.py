"""Work on disks that are full or may not be written: it must end with one line of ours, and when there is room be done.

    unshare --map-root-user --mount python -m tests.disks FOLDER

Disks are mounted in memory, for which a process needs a namespace of its own. Prints a line of JSON for each try.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from dwalign import deepalign, files, report
from tests.killed import WORK
from tests.kills import left

OURS = (files.FileError, report.ResultsError, report.RunError, deepalign.CheckpointError)
PAGE = 4096


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


def fault(name: str, folder: Path) -> str | None:
    """What is wrong with how this work ended, None if it was done."""
    try:
        WORK[name](folder)
    except OURS as error:
        return "" if "\n" not in str(error) else f"more than one line: {error}"
    except AssertionError as error:
        # a command says it on standard error
        *_, line = str(error).strip().splitlines() or [""]
        return "" if line.startswith("dwalign") and "Traceback" not in str(error) else f"no line of ours: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def tried(above: Path) -> Iterator[dict[str, Any]]:
    for name in WORK:
        whole = above / f"{name}-whole"
        whole.mkdir()
        assert fault(name, whole) is None
        wanted = left(whole)
        pages = sum(-(-file.stat().st_size // PAGE) for file in whole.rglob("*") if file.is_file())
        for disk, options in {"full": f"size={pages * PAGE // 2}", "read-only": "ro"}.items():
            folder = above / f"{name}-{disk}"
            folder.mkdir()
            mount(folder, options)
            said = fault(name, folder)
            if said == "":
                subprocess.run(["mount", "-o", "remount,rw,size=1g", folder], check=True)
                said = fault(name, folder)
                if said is None:
                    there = left(folder)
                    other = sorted(file for file in wanted | there if wanted.get(file) != there.get(file))
                    said = f"with room {other} are not as they should be" if other else ""
            elif said is None:
                said = "was done where nothing can be written"
            yield {"disk": disk, "work": name, "fault": said}


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    for one in tried(Path(sys.argv[1]).absolute()):
        print(json.dumps(one), flush=True)
