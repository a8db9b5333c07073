"""Work that is killed at any time, and done again, leaves what unbroken work leaves; `make kills` kills more."""

import random

import pytest

from tests.kills import kills
from tests.nights import long


@pytest.mark.parametrize("name", ["train", "pairs", *long("make_zoo", "merge")])
def test_killed_and_done_again(name, tmp_path):
    for kill in kills(name, tmp_path, random.randrange(1 << 30)):
        assert not kill.fault
        if kill.hit:
            break
