"""Random programs and damaged files, always the same few; `make fuzz` tries more."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz import damage, laws, programs
from tests.fuzz.batch import BATCH
from tests.fuzz.programs import Step

few = lambda count: settings(
    max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


# what failed once
KEPT = {
    "zero but for rounding": (Step("concatenate", how=3), Step("reshape", how=6), Step("dense")),
    "a family that is there only when another one is tied": (
        Step("einsum", how=3), Step("dense", 1), Step("scatter", 1, 0, 6), Step("cond"),
    ),
    "an argmax between sums of units that a clip has made equal": (
        Step("add"), Step("pool", how=8), Step("stack", how=5), Step("mix", how=9), Step("embed"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("program", KEPT.values(), ids=KEPT)
def test_kept_programs(program):
    laws.judge(program)


@pytest.mark.parametrize("part", range(2))
def test_programs(part):
    later: list[laws.Elsewhere] = []

    @seed(part)
    @few(25)
    @given(programs.programs)
    def judged(program):
        laws.judge(program, later=later)

    judged()
    for k in range(0, len(later), BATCH):
        laws.check_elsewhere(later[k : k + BATCH])


@few(60)
@given(damage.cases)
def test_damaged_files(tmp_path_factory, case):
    damage.judge(*case, tmp_path_factory.mktemp("damaged"))
