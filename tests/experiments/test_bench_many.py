"""Pairs a second by how often a network is encoded."""

import bench_many
import pytest

from dwalign.many import pairs
from dwalign.networks import mlp
from tests.nights import long

SHORT, LONG = (("features", True), ("weight_matching", False)), (bench_many.DESCENT, True)


@pytest.mark.parametrize("name, encoded", [*SHORT, *long(LONG)])
def test_networks_that_share_pairs_are_encoded_once(name, encoded, monkeypatch):
    counted, encode = [], pairs._encode
    monkeypatch.setattr(pairs, "_encode", lambda *given: counted.append(given) or encode(*given))
    config = bench_many.Config(networks=4, examples=4, batch=6, repeats=1)
    found = bench_many.measure(config, mlp(3, (4,), 2), name)
    # a batch of six pairs before and one that is timed, of four networks; none of pairs apart
    assert len(counted) == 2 * encoded
    assert found["ratio"] == pytest.approx(found["in all pairs"] / found["in one pair"])


def test_tables_show_titles():
    titles = [bench_many.title(name) for name in bench_many.Config().methods]
    assert titles[0] == "weight matching" and titles[-2:] == ["Deep-Align", "Deep-Align, 3 steps of descent"]
