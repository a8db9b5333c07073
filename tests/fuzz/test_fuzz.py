"""Random programs and damaged files, always the same few; `make fuzz` tries more."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, example, given, settings

from tests.fuzz import damage, laws, programs
from tests.fuzz.batch import BATCH

few = lambda count: settings(
    max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_programs():
    later: list[laws.Elsewhere] = []

    @few(200)
    @given(programs.programs)
    # zero but for rounding
    @example((programs.Step("concatenate", how=3), programs.Step("reshape", how=6), programs.Step("dense")))
    def judged(program):
        laws.judge(program, later=later)

    judged()
    for k in range(0, len(later), BATCH):
        laws.check_elsewhere(later[k : k + BATCH])


@few(60)
@given(damage.cases)
def test_damaged_files(tmp_path_factory, case):
    damage.judge(*case, tmp_path_factory.mktemp("damaged"))
