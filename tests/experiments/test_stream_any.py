"""Searches that are compared align equally many pairs; only what they see is another."""

import collections

import stream_any
import train_any


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
    flags = ["--preset", "smoke", "--searches", "1", "--parts", "9", "--mixture", "MLP 4 x 64", "wide GRU"]
    config = stream_any.read_config([*flags, "--out", str(tmp_path)])
    results = stream_any.main(config)
    assert set(results["panels"]["barrier"]["start"]) == {*config.validation, "mean logarithm"}
    assert (tmp_path / "stream-any" / "results.json").exists()
    # three kinds of four steps on two settings
    assert sum(seen.values()) == 3 * 4 * 2
    counted: collections.Counter = collections.Counter()
    for (_, number), count in seen.items():
        counted[number] += count
    # all of the first; half of the second; and a setting a round of the third, whose rounds are half as much work
    assert counted == {0: 8 + 4 + 4, 1: 4 + 4}
