"""Random programs and damaged files, for as long as wanted.

    make fuzz                                            1,000 programs and 1,000 files
    make fuzz ARGS="--programs 10000 --seconds 36000"    ten thousand programs, or what ten hours allow
    make fuzz ARGS="--resume"                            goes on where it stopped, and where there was a fault

In each program a permutation is hidden and found again. Every failure is shrunk; what a spec misses is counted by
reason, with the first program that shows it. Writes runs/fuzz/: config.json, batches.jsonl, results.json.
"""

import dataclasses
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import tyro

from dwalign import report
from tests.fuzz import damage
from tests.fuzz.batch import BATCH, prepare, try_batch

# what JAX keeps of programs fills the memory: a process runs so many batches
CHILD = 50


@dataclasses.dataclass(frozen=True)
class Config:
    """Try random programs and damaged files."""

    programs: int = 1000
    files: int = 1000
    seed: int = 0
    seconds: float = 36000.0
    """no batch is begun after so long."""
    workers: int = 1
    """processes at a time"""
    out: str = "runs"
    resume: bool = False
    """go on with a run that was interrupted, or ask it for more."""


def run(config: Config, done: set[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Batch after batch, in processes of their own: a library that dies of a file takes nothing with it."""
    begin = time.monotonic()
    wanted = {"programs": config.programs, "files": config.files}
    jobs = [(what, k) for what, count in wanted.items() for k in range(-(-count // BATCH)) if (what, k) not in done]
    spawned = multiprocessing.get_context("spawn")
    # a pool that breaks takes all of its processes: each has one
    own = threading.local()

    def tried(job: tuple[str, int]) -> dict[str, Any] | None:
        what, number = job
        if time.monotonic() - begin > config.seconds:
            return None
        try:
            own.pool = getattr(own, "pool", None) or ProcessPoolExecutor(1, spawned, prepare, max_tasks_per_child=CHILD)
            return own.pool.submit(try_batch, what, config.seed, number).result()
        except BrokenProcessPool:
            own.pool = None
            fault = {"error": "the process died", "case": ""}
            return {"what": what, "number": number, "counts": [], "examples": {}, "fault": fault}

    threads = ThreadPoolExecutor(config.workers)
    try:
        found = as_completed([threads.submit(tried, job) for job in jobs])
        yield from filter(None, (one.result() for one in found))
    finally:
        threads.shutdown(cancel_futures=True)


def summary(config: Config, batches: list[dict[str, Any]]) -> dict[str, Any]:
    counts: Counter[tuple[str, str]] = Counter()
    for batch in batches:
        counts.update({(group, outcome): count for group, outcome, count in batch["counts"]})
    rows = ["programs", *damage.KINDS]
    outcomes = dict.fromkeys(outcome for group, outcome in counts if group in rows)
    faults = [batch["fault"] | {"what": batch["what"], "batch": batch["number"]} for batch in batches if batch["fault"]]
    examples = {reason: example for batch in reversed(batches) for reason, example in batch["examples"].items()}
    of = lambda *groups: {outcome: count for (group, outcome), count in counts.most_common() if group in groups}
    misses = of("misses")
    table = {
        outcome: {row: report.point([[counts[row, outcome]]]) for row in rows if counts[row, outcome]}
        for outcome in outcomes
    }
    programs, files = (
        sum(count for (group, _), count in counts.items() if group in groups) for groups in (["programs"], damage.KINDS)
    )
    whole = f"{programs:,} programs and {files:,} damaged files"
    return {
        "experiment": "fuzz",
        "config": dataclasses.asdict(config),
        "environment": report.environment(),
        "axis": "tried",
        "settings": rows,
        "whole": True,
        "panels": {"outcome": table},
        "planted": of("planted"),
        "misses": [{"reason": why, "count": count, "first": examples[why]} for why, count in misses.items()],
        "faults": faults,
        "caption": f"fuzz: {whole} without a fault, and {len(faults)} faults.",
    }


def main(config: Config) -> dict[str, Any]:
    folder = report.open_run(Path(config.out) / "fuzz", {"seed": config.seed}, resume=config.resume)
    log = folder / "batches.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    batches = [batch for batch in lines if not batch["fault"]]
    for batch in run(config, {(one["what"], one["number"]) for one in batches}):
        batches.append(batch)
        with log.open("a") as lines:
            print(json.dumps(batch), file=lines)
        if batch["fault"]:
            print(
                f"{batch['what']} {batch['number']}: {batch['fault']['error']}\n  {batch['fault']['case']}", flush=True
            )
        results = summary(config, batches)
        report.write_json(folder / "results.json", results)
    print(report.series_table(results))
    print("hidden permutations found by", ", ".join(f"{name}: {count}" for name, count in results["planted"].items()))
    for miss in results["misses"]:
        print(f"{miss['count']} x {miss['reason']}: {miss['first']}")
    return results


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
