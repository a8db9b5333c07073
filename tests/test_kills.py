"""Work that is killed at any time, and done again, leaves what unbroken work leaves: no less and no more.

`make kills` kills more often.
"""

import multiprocessing
import os
import random
import time

import pytest

from dwalign.files import open_weights
from tests.killed import WORK, work

KILLS = int(os.environ.get("DWALIGN_KILLS", "1"))


@pytest.fixture(scope="module")
def processes():
    """Of which each begins with the package imported and no device."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.killed"])
    return context


def done(processes, name, folder, moment=None):
    """Do the work, or kill it when `moment` says so; how long it took, or None if it was killed."""
    folder.mkdir(exist_ok=True)
    begun, begin = processes.Pipe(duplex=False)
    process = processes.Process(target=work, args=(name, str(folder), begin))
    process.start()
    begin.close()
    assert begun.recv()
    start = time.monotonic()
    while process.is_alive() and not (moment and moment(time.monotonic() - start)):
        process.join(0.002)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    assert process.exitcode == 0
    return time.monotonic() - start


def at_random(chance, folder, seconds, files):
    """A time, or a number of files that are there: most of the time passes before the first is written."""
    if chance.random() < 0.5:
        return lambda passed, at=chance.uniform(0.1, 0.8) * seconds: passed > at
    count = chance.randint(1, files)
    return lambda passed: sum(len(files) for *_, files in os.walk(folder)) >= count


def left(folder):
    """Every file, with its content where it is the same whenever it is written (Orbax stamps and names by chance)."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    chance = lambda file: "checkpoints" in file.parts or "__pycache__" in file.parts
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if not chance(file)} | {
        str(file.relative_to(folder)): b"" for file in folder.glob("run/checkpoints/*/*")
    }


def nothing_half(folder):
    """What bears the name of a finished file is one."""
    for file in folder.rglob("*.safetensors"):
        if not any(part.startswith(".") for part in file.relative_to(folder).parts):
            for array in open_weights(file).values():
                array.__array__()


@pytest.mark.parametrize("name", WORK)
def test_killed_and_done_again(name, processes, tmp_path):
    seconds = done(processes, name, tmp_path / "whole")
    whole = left(tmp_path / "whole")
    seed = random.randrange(1 << 30)
    chance, killed = random.Random(seed), 0
    for k in range(KILLS):
        folder = tmp_path / str(k)
        killed += done(processes, name, folder, at_random(chance, folder, seconds, len(whole))) is None
        nothing_half(folder)
        seconds = min(done(processes, name, folder), seconds)
        assert left(folder) == whole, f"kill {k} of seed {seed}"
    print(f"\n{name}: {killed} of {KILLS} killed while at work, {seconds:.1f} s unbroken")
