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


def done(processes, name, folder, seconds=None):
    """Do the work, or kill it after some seconds; how long it took, or None if it was killed."""
    folder.mkdir(exist_ok=True)
    begun = processes.Event()
    process = processes.Process(target=work, args=(name, str(folder), begun))
    process.start()
    assert begun.wait(100)
    start = time.monotonic()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    assert process.exitcode == 0
    return time.monotonic() - start


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
    chance, killed = random.Random(), 0
    for k in range(KILLS):
        folder = tmp_path / str(k)
        at = chance.uniform(0.1, 0.95) * seconds
        killed += done(processes, name, folder, at) is None
        nothing_half(folder)
        done(processes, name, folder)
        assert left(folder) == whole, f"killed after {at:.3f} of {seconds:.3f} s"
    print(f"{name}: {killed} of {KILLS} killed while at work, {seconds:.1f} s unbroken")
