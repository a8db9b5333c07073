"""Work that is killed at any time, and done again, must leave what unbroken work leaves: no less and no more."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from array_record.python.array_record_module import ArrayRecordReader
from pyarrow import parquet

from dwalign.files import open_weights
from tests.killed import work

WAIT = 300  # seconds for what takes less than ten


READERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": lambda file: [array.__array__() for array in open_weights(file).values()],
    ".parquet": lambda file: parquet.read_table(file, page_checksum_verification=True),
    ".array_record": lambda file: ArrayRecordReader(str(file)).read_all(),
}


class Kill(NamedTuple):
    """What came of one: whether it hit while the work was done, and what was wrong afterwards, if anything."""

    hit: bool
    fault: str = ""


def kills(name: str, folder: Path, seed: int) -> Iterator[Kill]:
    """Kill one of `tests.killed.WORK` again and again, each time in an empty folder in `folder`."""
    processes = _processes()
    seconds = _done(processes, name, folder / "whole")
    whole = left(folder / "whole")
    chance, number = random.Random(seed), 0
    while True:
        number += 1
        place = folder / str(number)
        hit = _done(processes, name, place, _at_random(chance, place, seconds, len(whole))) is None
        try:
            _nothing_half(place)
            seconds = min(_done(processes, name, place), seconds)
        except Exception as error:
            yield Kill(hit, f"kill {number} of seed {seed}: {type(error).__name__}: {error}")
            continue
        there = left(place)
        other = sorted(file for file in whole.keys() | there.keys() if whole.get(file) != there.get(file))
        yield Kill(hit, f"kill {number} of seed {seed}: {other} are not as unbroken work leaves them" if other else "")


def _processes() -> Any:
    """Of which each begins with all imported and no device."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed"])
    return context


def _done(
    processes: Any, name: str, folder: Path, moment: Callable[[float], bool] = lambda passed: False
) -> float | None:
    """Do the work, or kill it when `moment` says so; how long it took, or None if it was killed."""
    folder.mkdir(exist_ok=True)
    begun, begin = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(name, str(folder), begin))
    process.start()
    begin.close()
    begun.recv()
    start = time.monotonic()
    while process.is_alive() and not (late := time.monotonic() - start > WAIT) and not moment(time.monotonic() - start):
        process.join(0.002)
    if process.is_alive():
        process.kill()
        process.join()
        if late:
            raise TimeoutError(f"{name} took more than {WAIT} s")
        return None
    if process.exitcode:
        raise ChildProcessError(f"{name} ended with {process.exitcode}")
    return time.monotonic() - start


def _at_random(chance: random.Random, folder: Path, seconds: float, files: int) -> Callable[[float], bool]:
    """A time, or a number of files that are there: most of the time passes before the first is written."""
    if chance.random() < 0.5:
        return lambda passed, at=chance.uniform(0.1, 0.8) * seconds: passed > at
    count = chance.randint(1, files)
    return lambda passed: sum(len(files) for *_, files in os.walk(folder)) >= count


def left(folder: Path) -> dict[str, bytes]:
    """Every file, with its content where it is the same whenever it is written (Orbax stamps and names by chance)."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    chance = lambda file: "checkpoints" in file.parts or "__pycache__" in file.parts
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if not chance(file)} | {
        str(file.relative_to(folder)): b"" for file in folder.glob("run/checkpoints/*/*")
    }


def _nothing_half(folder: Path) -> None:
    """What bears the name of a finished file is one."""
    for file in folder.rglob("*"):
        if file.suffix in READERS and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            READERS[file.suffix](file)
