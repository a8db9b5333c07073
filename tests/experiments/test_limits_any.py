"""What orders of units can take away: of each pair the least, beside what was measured before on the same pairs."""

from types import SimpleNamespace

import limits_any
import numpy as np
import pytest
import train_any
from fine_tune_any import BESIDE


@pytest.mark.usefixtures("without_figures")
def test_the_best_of_all_is_so_pair_by_pair(judged_before, monkeypatch):
    barriers = {limits_any.SHIPPED: [[0.4, 0.2]], "refine": [[0.1, 0.6]]}
    asked = []

    def judge(config, setting):
        asked.append(setting)
        return {name: SimpleNamespace(curve=SimpleNamespace(barrier=np.array(x))) for name, x in barriers.items()}

    monkeypatch.setattr(limits_any, "judge", judge)
    monkeypatch.setitem(limits_any.UNSEEN, "mixer", train_any.VALIDATION["mixer"])
    config = limits_any.read_config(["--out", str(judged_before), "--unseen", "mixer"])
    found = limits_any.main(config)["panels"]["barrier"]
    assert asked == [train_any.VALIDATION["mixer"]]
    means = {name: points["mixer"]["mean"] for name, points in found.items()}
    assert means == {
        **dict.fromkeys(BESIDE[:-1], 1.0),
        limits_any.SHIPPED: pytest.approx(0.3),
        "refinement": pytest.approx(0.35),
        limits_any.LEAST: pytest.approx(0.15),
    }
