"""Random programs and damaged files, always the same few; `make fuzz` tries more."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, example, given, settings

from tests.fuzz import damage, laws, programs
from tests.fuzz.batch import BATCH
from tests.fuzz.programs import Step

few = lambda count: settings(
    max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_programs():
    later: list[laws.Elsewhere] = []

    @few(200)
    @given(programs.programs)
    # zero but for rounding
    @example((Step("concatenate", how=3), Step("reshape", how=6), Step("dense")))
    # a family that is there only when another one is tied
    @example((Step("einsum", how=3), Step("dense", 1), Step("scatter", 1, 0, 6), Step("cond")))
    def judged(program):
        laws.judge(program, later=later)

    judged()
    for k in range(0, len(later), BATCH):
        laws.check_elsewhere(later[k : k + BATCH])


@few(60)
@given(damage.cases)
def test_damaged_files(tmp_path_factory, case):
    damage.judge(*case, tmp_path_factory.mktemp("damaged"))
