"""A batch of cases, by its number always the same; for processes that import it."""

import gc
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
from hypothesis import HealthCheck, Phase, Verbosity

from tests.fuzz import damage, laws, programs

BATCH = 20


def prepare() -> None:
    """For a process that tries batches: nothing that costs time and says nothing about a program."""
    # programs are many small objects that go all at once
    gc.set_threshold(20_000, 20, 20)
    gc.freeze()
    # they run for less time than a thread takes to begin
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.config.update("jax_platforms", "cpu")


def judge_program(program: programs.Program, later: list | None) -> Iterator[tuple[str, str, Any]]:
    seen = laws.judge(program, later=later)
    yield "programs", "groups of larger kinds" if seen.larger else "groups" if seen.groups else "no groups", None
    yield "planted", seen.planted, None
    for miss in seen.misses:
        yield "misses", miss, program


def judge_file(case: damage.Case, later: list | None) -> Iterator[tuple[str, str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        yield case[0], damage.judge(*case, Path(folder)), None


WHAT: dict[str, tuple[Any, Callable]] = {
    "programs": (programs.programs, judge_program),
    "files": (damage.cases, judge_file),
}


def try_batch(what: str, seed: int, number: int) -> dict[str, Any]:
    """What came of one batch: how often, the first example of each miss, and a failure if there was one, shrunk."""
    later: list[laws.Elsewhere] = []
    found = _tried(what, seed, number, later)
    try:
        laws.check_elsewhere(later)
    except Exception:
        # again, each case to the end before the next
        return _tried(what, seed, number, None)
    return found


def _tried(what: str, seed: int, number: int, later: list | None) -> dict[str, Any]:
    strategy, judge = WHAT[what]
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[str, str] = {}
    faults: dict[str, str] = {}

    @hypothesis.seed(f"{seed} {what} {number}")
    @hypothesis.settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy)
    def tried(case):
        try:
            found = list(judge(case, later))
        except Exception as error:
            # the last one is the smallest
            faults.update(error=f"{type(error).__name__}: {error}", case=repr(plain(case)))
            raise
        for group, outcome, example in found if not faults else ():
            counts[group, outcome] += 1
            if example is not None:
                examples.setdefault(outcome, repr(plain(example)))

    try:
        tried()
    except Exception as error:
        faults = faults or {"error": f"{type(error).__name__}: {error}", "case": ""}
    tallied = [[*key, count] for key, count in sorted(counts.items())]
    return {"what": what, "number": number, "counts": tallied, "examples": examples, "fault": faults or None}


def plain(case: Any) -> Any:
    """Records as the tuples that they are."""
    return tuple(map(plain, case)) if isinstance(case, tuple) else case
