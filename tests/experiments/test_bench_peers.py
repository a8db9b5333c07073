"""Weight matching beside other libraries: what their environments are given, and what is said of what they give."""

import os
import sys

import bench_peers
import numpy as np
import pytest

from dwalign import report

PEER = """
import sys
import numpy as np

given = np.load(sys.argv[1])
layers, pairs = int(given["layers"]), int(given["pairs"])
kept = {f"{n}/seconds": 2.0 for n in range(pairs)} | {f"{n}/bytes": 3_000_000 for n in range(pairs)}
for n in range(pairs):
    for k in range(layers):
        kept |= {f"{n}/{k}/{name}": given[f"{n}/b/{k}/{name}"] for name in ("kernel", "bias")}
np.savez(sys.argv[2], **kept)
"""


def read(tmp_path, *args):
    return bench_peers.read_config(["--widths", "4", "--pairs", "2", "--epochs", "1", "--out", str(tmp_path), *args])


@pytest.mark.long
def test_a_peer_gets_the_pairs_and_is_judged_as_we_are(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_peers, "PEERS", tmp_path)
    (tmp_path / "rebasin_matching.py").write_text(PEER)
    (tmp_path / "sinkhorn_matching.py").write_text(PEER)
    given = "--rebasin", sys.executable, "--sinkhorn-rebasin", sys.executable, "--steps", "2"
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    panels = bench_peers.main(read(tmp_path, *given))["panels"]
    assert cores is None or os.sched_getaffinity(0) == cores, "what runs afterwards has all cores again"
    mean = lambda title, name: panels[title]["width 4"][name]["mean"]
    ours, other = bench_peers.OURS, bench_peers.OUR_SINKHORN
    assert mean("ms a pair", "rebasin") == 2000 and mean("ms a pair", ours) < 2000
    # a peer that moves nothing has the sum and the loss of the networks as they are
    assert mean("share of the largest sum", "rebasin") < mean("share of the largest sum", ours) <= 1
    assert mean("loss half way", "rebasin") == mean("loss half way", "sinkhorn-rebasin")
    # parts of the work take less than all of it
    assert 0 < mean("x dwalign", bench_peers.ASSIGNED) < 1 and mean("ms a pair", bench_peers.DESCENDED) > 0
    # each beside ours of its kind
    assert mean("x dwalign", ours) == mean("x dwalign", other) == 1
    ratio = mean("ms a pair", "sinkhorn-rebasin") / mean("ms a pair", other)
    assert np.isclose(mean("x dwalign", "sinkhorn-rebasin"), ratio, rtol=1e-3)
    assert mean("MB", "sinkhorn-rebasin") == 3 and set(panels["MB"]["width 4"]) == {other, "sinkhorn-rebasin"}


def test_a_peer_that_fails_and_a_checkout_that_is_none_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_peers, "PEERS", tmp_path)
    (tmp_path / "rebasin_matching.py").write_text("raise SystemExit('no module of that name')")
    with pytest.raises(report.RunError, match=r"rebasin_matching\.py, which said: no module of that name"):
        bench_peers.main(read(tmp_path, "--rebasin", sys.executable))
    with pytest.raises(report.RunError, match=r"checkout must be a folder of git-re-basin .*found None"):
        read(tmp_path, "--git-re-basin", sys.executable)
