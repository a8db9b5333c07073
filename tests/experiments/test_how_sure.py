"""Chances on a few small networks: everything is measured, and curves are found again that made the data."""

import json

import how_sure
import numpy as np
import pytest

from dwalign import report
from dwalign.evaluation import predict_chance
from dwalign.matching import activation_matching_correlation, weight_matching
from dwalign.networks import transformer
from dwalign.symmetry import inverse
from tests import drawn

NUMBERS = {"lead": 5.0, "contrast": 1.0, "company": 2.0}


def draw_units(count):
    random = np.random.default_rng(0)
    for k, n in enumerate(random.integers(4, 40, count)):
        clues = {name: random.uniform(low, 1, n) for name, low in (("lead", -0.5), ("contrast", -1), ("company", 0))}
        right = random.random(n) < predict_chance(clues, NUMBERS)
        yield how_sure.Units(f"drawn {k % 3}", "weights", "naive", clues, right)


@pytest.mark.long
def test_how_sure(tmp_path, monkeypatch, capsys):
    # one network, so that programs are compiled once
    network = how_sure.dense(6)()
    for part, name in ((how_sure.FIT, "mlp 32"), (how_sure.TEST, "mlp 48-96")):
        monkeypatch.setitem(part, name, how_sure.Kind(lambda: network))
    methods = (weight_matching, activation_matching_correlation)
    monkeypatch.setattr(how_sure, "choose_methods", lambda network, inputs: methods)
    flags = ["--preset", "smoke", "--images", "128", "--inputs", "64", "--out", str(tmp_path)]
    results = how_sure.main(how_sure.read_config(flags))
    folder = tmp_path / "how_sure"
    assert report.read_json(folder / "results.json") == json.loads(json.dumps(results))
    assert report.read_json(folder / "confidence.json") == results["numbers"] and (folder / "reliability.png").exists()
    assert report.chance_table(results) in capsys.readouterr().out
    assert len(results["reliability"]) == 2 * 2 * len(methods)
    # two parents, two stages
    assert all(row["units"] == 4 * 6 == sum(count for count, *_ in row["bins"]) for row in results["reliability"])
    first = results["reliability"][0]
    assert (first["method"], first["architectures"]) == ("weight_matching", "seen") and first["right"] > 0.8


def test_a_curve_is_found_again_and_judged_right():
    found = list(draw_units(1500))
    numbers = how_sure.fit(found)
    assert numbers == pytest.approx(NUMBERS, abs=0.5)
    judged = how_sure.judge(found, numbers)
    assert judged["error"] < 0.01 and judged["chance"] == pytest.approx(judged["right"], abs=0.005)
    more = how_sure.fit([one for one in found if one.architecture == "drawn 0"] * 3 + found)
    assert more == pytest.approx(numbers, abs=0.01), "the weight of an architecture does not grow with its units"
    flat = how_sure.judge(found, dict.fromkeys(NUMBERS, 0.0))
    assert flat["error"] > 0.3 and flat["brier"] > judged["brier"]
    bent = how_sure.judge(found, dict(NUMBERS, lead=2.0), how_sure.isotonic(found, dict(NUMBERS, lead=2.0)))
    assert bent["error"] < 0.02, "a monotone correction mends a curve that is too flat"


def test_in_a_wrong_head_all_is_wrong():
    spec = transformer(length=3, dim=4, depth=1, heads=2, width=5, vocabulary=7).spec
    (outer,) = set(spec.outer)
    inside = {group for group, groups in spec.batch.items() if outer in groups}
    hidden = drawn.perms(spec)
    perms = inverse(spec, hidden)
    assert all(right.all() for right in how_sure.is_right(spec, perms, hidden).values())
    right = how_sure.is_right(spec, perms | {outer: perms[outer][::-1]}, hidden)
    assert inside and {group: right[group].any() for group in spec.sizes} == {
        group: group != outer and group not in inside for group in spec.sizes
    }
