"""Searches that are compared align equally many pairs; only what they see, and how they weigh it, is another."""

import collections

import numpy as np
import pytest
import search_any
import train_any

SMOKE = ["--preset", "smoke", "--searches", "1", "--parts", "9"]


def test_equally_many_pairs_of_other_networks(tmp_path, monkeypatch):
    seen: collections.Counter = collections.Counter()

    def stream(config, setting):
        def part(number):
            def barrier(variables):
                seen[setting, number] += 1
                return 1.0

            return barrier

        return part

    monkeypatch.setattr(train_any, "stream", stream)
    monkeypatch.setattr(train_any, "held_out", lambda config, setting: lambda variables: 0.5)
    config = search_any.read_config([*SMOKE, "--mixture", "MLP 4 x 64", "wide GRU", "--out", str(tmp_path)])
    results = search_any.main(config)
    kinds = search_any.kinds(config)
    assert set(results["panels"]["barrier"]) == set(config.validation)
    assert results["settings"] == ["start", *kinds]
    assert set(results["panels"]["mean logarithm"]["half way"]) == {*kinds}
    assert (tmp_path / "search-any" / "results.json").exists()
    # each kind takes four steps on two settings, of which it knows what is left before
    assert sum(seen.values()) == len(kinds) * (2 + 4 * 2)
    counted: collections.Counter = collections.Counter()
    for (_, number), count in seen.items():
        counted[number] += count
    # half of what fresh networks are for is the second: of every setting, or of each in its second turn
    assert counted == {0: len(kinds) * (2 + 8) - 4 - 4, 1: 4 + 4}


def far(*bests):
    """Settings that leave nothing at these rates."""
    distance = lambda best: lambda variables: abs(float(variables["params"]["rate"]) - best)
    return [lambda number, best=best: distance(best) for best in bests]


def rates(kind, parts, steps):
    found = search_any.search(kind, parts, {"params": {"rate": np.float32(1)}}, 0, step=0.5)
    return [float(variables["params"]["rate"]) for _, (_, variables) in zip(range(steps), found, strict=False)]


@pytest.mark.parametrize(
    "kind, best",
    [("lowers the mean", 6.0), ("lowers the mean relative to the start", 1.2), ("lowers the highest", 3.6)],
)
def test_what_is_lowered_is_what_was_said(kind, best):
    config = search_any.read_config(["--steps", "100"])
    assert rates(search_any.kinds(config)[kind], far(1.2, 6, 6, 6), 100)[-1] == pytest.approx(best, rel=0.1)


def sees(kind, left, rounds=200):
    """The settings that rounds see while this is left in them."""
    random = np.random.default_rng(0)
    return [sorted(kind.settings(number, np.array(left), random)) for number in range(rounds)]


def test_settings_in_which_more_is_left_are_seen_more_often():
    config = search_any.read_config(["--few", "2"])
    kinds = search_any.kinds(config)
    left = [0.02, 0.1, 0.2, 0.6]
    by_left = np.bincount(np.ravel(sees(kinds["few settings, by what is left"], left)))
    assert (np.diff(by_left) > 0).all() and by_left[0] > 0
    assert sees(kinds["few settings in turn"], left, 3) == [[0, 1], [2, 3], [0, 1]]
    first = kinds["easy settings first"]
    assert sees(first, [0.6, 0.1, 0.2, 0.02], 3) == [[1, 3], [1, 3], [0, 1, 2, 3]]
    # two rounds on half of the settings are half of the work
    assert 2 * 2 * first.every == config.steps * len(config.mixture) / 2


def test_a_search_goes_on_from_what_a_round_kept_and_knows_what_is_left():
    known = []
    kind = search_any.Kind(lambda number, left, random: known.append(left.copy()) or [number % 2], every=20)
    found = rates(kind, far(3, 3), 41)
    assert found[0] == 1 and found[19] == found[20]
    assert abs(found[19] - 3) < 1
    assert known[0] == pytest.approx([2, 2])
    assert known[1] == pytest.approx([abs(found[19] - 3), 2])
    assert known[2] == pytest.approx([abs(found[19] - 3), abs(found[39] - 3)])
