"""How reliable it is: work that is killed, disks without room, random programs, damaged files, inputs nobody can mean.

    make nightly                            30 kills, 1,000 programs, 1,000 files, disks, packages, every bad input
    make nightly ARGS="--kills 300 --programs 10000"
    make nightly ARGS="--seed 1 --resume"   goes on with that night where it stopped, and where there was a fault
    make kills                              kills alone

Writes runs/nightly/results.json after each kind of work, and runs/nightly/fuzz/ for programs and files; what is worth
keeping goes to results/reliability.json.
"""

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import tyro

from dwalign import report
from tests import bounds
from tests.fuzz import __main__ as fuzz
from tests.killed import WORK
from tests.kills import kills

KILLED = {
    "make_zoo": "making a zoo",
    "train": "training an aligner",
    "checkpoint": "saving checkpoints",
    "merge": "merging and aligning files",
    "many": "merging many files",
    "records": "making networks in records",
    "pairs": "aligning many pairs",
}
BAD = {
    "arguments": "tests/test_bad_input.py",
    "command lines": "tests/cli/test_bad_input.py",
    "files": "tests/files/test_damaged.py",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Try what can go wrong."""

    kills: int = 30
    programs: int = 1000
    files: int = 1000
    inputs: bool = True
    """also every bad input of the tests, and methods on 1 and 8 devices"""
    disks: bool = True
    """also work on disks that are full or may not be written; asks Linux for a namespace of its own"""
    packages: bool = True
    """also wheel and sdist in environments of their own, which pip fills"""
    seconds: float = 36000.0
    """no batch of programs or files is begun after so long"""
    seed: int | None = None
    """of all that is drawn; another one each time by default"""
    workers: int = 1
    """processes that try programs and files at a time"""
    out: str = "runs"
    resume: bool = False
    """keep what an earlier run of this seed has tried without a fault, and try the rest"""


Row = tuple[str, dict[str, int]]
"""A kind of trial, and its counts: `tried`, `held`, and what else there is to say."""
Counts = dict[str, dict[str, int]]


def killed(count: int, seed: int, faults: list[str], done: Counts) -> Iterator[Row]:
    """So many kills, shared among all kinds of work; one that comes when the work is done is none."""
    for k, name in enumerate(WORK):
        if f"killed: {KILLED[name]}" in done:
            continue
        wanted = len(range(k, count, len(WORK)))
        tried = broken = 0
        with tempfile.TemporaryDirectory() as folder:
            for kill in islice(kills(name, Path(folder), seed), 3 * wanted):
                tried += kill.hit or bool(kill.fault)
                if kill.fault:
                    broken += 1
                    faults.append(f"{name}: {kill.fault}")
                if tried >= wanted:
                    break
        yield f"killed: {KILLED[name]}", {"tried": tried, "held": tried - broken}


def repeated(faults: list[str], done: Counts) -> Iterator[Row]:
    """What methods find in other runs, and beside other numbers of devices, to the last bit."""

    def seen(count: int) -> list[str]:
        flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
        command = [sys.executable, "-m", "tests.devices"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | flags)
        lines = done.stdout.splitlines()
        if done.returncode or lines[0] != f"{count} devices":
            raise ChildProcessError(f"tests.devices: {done.stdout[-200:]} {done.stderr[-500:]}")
        return lines[1:]

    names = {count: f"a second run on {count} device{'s' * (count > 1)}" for count in (1, 8)}
    rest = [count for count in names if names[count] not in done]
    first = seen(1) if rest else []
    for count in rest:
        pairs = list(zip(first, seen(count), strict=True))
        faults += [f"{count} devices: {there} must be {here}" for here, there in pairs if here != there]
        yield names[count], {"tried": len(pairs), "held": sum(here == there for here, there in pairs)}


def fuzzed(config: Config, seed: int, folder: Path, faults: list[str]) -> Iterator[Row]:
    asked = {name: getattr(config, name) for name in ("programs", "files", "seconds", "workers", "resume")}
    found = fuzz.main(fuzz.Config(seed=seed, out=str(folder), **asked))
    faults += [f"{one['error']}: {one['case']}" for one in found["faults"]]
    broken = sum(one["what"] == "programs" for one in found["faults"])
    for kind in found["settings"]:
        counts = {outcome: int(of[kind]["mean"]) for outcome, of in found["panels"]["outcome"].items() if kind in of}
        tried = sum(counts.values())
        if not tried:
            continue
        if kind == "programs":
            yield "random programs", {"tried": tried + broken, "held": tried}
        else:
            other = counts.get("other", 0)
            yield f"damaged: {kind}", {"tried": tried, "held": tried - other, "read otherwise": other}
    for miss in found["misses"]:
        yield f"missed: {miss['reason']}", {"programs": miss["count"]}


def mounted(faults: list[str], done: Counts) -> Iterator[Row]:
    """Work on disks in memory, and when there is room the same work again."""
    names = {disk: f"on a {disk} disk" for disk in ("full", "read-only")}
    if set(names.values()) <= done.keys():
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "--map-root-user", "--mount", sys.executable, "-m", "tests.disks", folder]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    tries = [json.loads(line) for line in lines if line.startswith("{")]
    for disk, name in names.items():
        of = [one for one in tries if one["disk"] == disk]
        faults += [f"{name}: {one['work']}: {one['fault']}" for one in of if one["fault"]]
        yield name, {"tried": len(of), "held": sum(not one["fault"] for one in of)}


def packaged(faults: list[str], done: Counts) -> Iterator[Row]:
    """Merging two files with what was built and installed alone."""
    if "wheel and sdist alone" in done:
        return
    found = dict(bounds.run(bounds.Config(pythons=(sys.executable,), only=("wheel", "sdist")), ()))
    faults += [f"{name}: {one['fault']}" for name, one in found.items() if "fault" in one]
    yield "wheel and sdist alone", {"tried": len(found), "held": sum("fault" not in one for one in found.values())}


def refused(faults: list[str], done: Counts) -> Iterator[Row]:
    for name, file in BAD.items():
        if f"bad {name}" in done:
            continue
        command = [sys.executable, "-m", "pytest", "--tb=line", "-p", "no:cacheprovider", file]
        ended = subprocess.run(command, capture_output=True, text=True)
        counts = {what: int(count) for count, what in re.findall(r"(\d+) (passed|failed|error)", ended.stdout)}
        faults += re.findall(r"^(?:FAILED|ERROR) .*$", ended.stdout, re.MULTILINE)
        yield f"bad {name}", {"tried": sum(counts.values()), "held": counts.get("passed", 0)}


def run(config: Config, seed: int, folder: Path, faults: list[str], done: Counts) -> Iterator[Row]:
    yield from done.items()
    if config.kills:
        yield from killed(config.kills, seed, faults, done)
    if config.disks:
        yield from mounted(faults, done)
    if config.packages:
        yield from packaged(faults, done)
    if config.inputs:
        yield from refused(faults, done)
        yield from repeated(faults, done)
    if config.programs or config.files:
        yield from fuzzed(config, seed, folder, faults)


def held(file: Path) -> Counts:
    """What an earlier run has tried without a fault; programs and files are counted anew."""
    rows: Counts = {}
    for column, panel in report.read_json(file)["panels"].items() if file.exists() else ():
        for name, point in panel[column].items():
            rows.setdefault(name, {})[column] = int(point["mean"])
    again = ("random programs", "damaged:", "missed:")
    return {name: row for name, row in rows.items() if not name.startswith(again) and row["tried"] == row["held"]}


def summary(config: Config, seed: int, rows: list[Row], faults: list[str]) -> dict[str, Any]:
    columns = dict.fromkeys(column for _, counts in rows for column in counts)
    table = {
        column: {name: report.point([[counts[column]]]) for name, counts in rows if column in counts}
        for column in columns
    }
    count = lambda column: sum(counts.get(column, 0) for _, counts in rows)
    caption = f"{count('tried'):,} trials, of which {count('held'):,} held; {len(faults)} faults."
    return {
        "experiment": "reliability",
        "config": {**dataclasses.asdict(config), "seed": seed, "out": "runs", "resume": False},
        "environment": report.environment(),
        "axis": "what went wrong",
        "settings": [name for name, _ in rows],
        "whole": True,
        "panels": {column: {column: counts} for column, counts in table.items()},
        "faults": faults,
        "caption": caption,
    }


def main(config: Config) -> dict[str, Any]:
    seed = random.randrange(1 << 30) if config.seed is None else config.seed
    folder = report.open_run(Path(config.out) / "nightly", {"seed": seed}, resume=config.resume)
    rows: list[Row] = []
    faults: list[str] = []
    results: dict[str, Any] = {}
    for row in run(config, seed, folder, faults, held(folder / "results.json")):
        rows.append(row)
        results = summary(config, seed, rows, faults)
        report.write_json(folder / "results.json", results)
        print(f"{row[0]}: {row[1]}", flush=True)
    there = folder / "fuzz" / "results.json"
    if results and there.exists():
        results["misses"] = report.read_json(there)["misses"]
        report.write_json(folder / "results.json", results)
    print(report.series_table(results), *faults, sep="\n")
    return results


if __name__ == "__main__":
    sys.exit(bool(main(tyro.cli(Config, description=__doc__))["faults"]))
