"""Work on the host is done in threads where that pays, and never in threads of threads."""

import threading

import chex
import numpy as np
import pytest
import threadpoolctl

from dwalign.assignment import hard, host, hungarian, in_threads


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(host, "cores", lambda: 2)


def test_large_problems_are_solved_side_by_side(monkeypatch, two_cores):
    scores = np.random.default_rng(0).standard_normal((6, 40, 40))
    expected = hungarian(scores)
    meeting = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(host, "WORTH_A_THREAD", 40**3)
    monkeypatch.setattr(hard, "PIECE", 40**2)
    monkeypatch.setattr(hard, "_assign", lambda matrix, assign=hard._assign: meeting.wait() * 0 + assign(matrix))
    # no problem is done before another has begun, and the order of results is that of the problems
    chex.assert_trees_all_equal(hungarian(scores), expected)


def test_threads_have_none_of_their_own(two_cores):
    here = lambda _: (threading.get_ident(), threads_of_blas())
    inside = in_threads(lambda _: (threading.get_ident(), in_threads(here, range(3), np.inf)), range(2), np.inf)
    for outer, inner in inside:
        assert outer != threading.get_ident()
        assert inner == [(outer, 1)] * 3
    # and are there again for the next
    before = threads_of_blas()
    assert all(outer != threading.get_ident() for outer, _ in in_threads(here, range(2), np.inf))
    assert threads_of_blas() == before


def test_little_work_stays_in_its_thread(two_cores):
    assert (
        in_threads(lambda _: threading.get_ident(), range(3), 2 * host.WORTH_A_THREAD - 1)
        == [threading.get_ident()] * 3
    )
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda k: 1 / k, range(2), np.inf)
    assert in_threads(lambda _: threading.get_ident(), range(2), np.inf)[0] != threading.get_ident()


def threads_of_blas():
    return max((one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"), default=1)
