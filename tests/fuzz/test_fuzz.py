"""Random programs and damaged files, always the same few; `make fuzz` tries more."""

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, example, given, settings

from tests.fuzz import damage, laws, programs

few = lambda count: settings(
    max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@few(20)
@given(programs.programs)
# zero but for rounding
@example((programs.Step("concatenate", how=3), programs.Step("reshape", how=6), programs.Step("dense")))
def test_programs(program):
    laws.judge(program)


@few(60)
@given(damage.cases)
def test_damaged_files(tmp_path_factory, case):
    damage.judge(*case, tmp_path_factory.mktemp("damaged"))
