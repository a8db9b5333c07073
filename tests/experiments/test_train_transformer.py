"""Transformers: what they are compared with, and a run of two small ones by a few methods."""

import json

import numpy as np
import pytest
import train_transformer as experiment

from dwalign import report
from dwalign.matching import naive, weight_matching
from dwalign.program import Data


def text(tokens, length=8):
    count = (len(tokens) - 1) // length
    return Data(*(np.array(tokens[k : k + count * length]).reshape(count, length) for k in (0, 1)))


def test_counts_in_threes_tell_what_follows_two():
    """A second-order rule is learned but for the places that see one token alone; noise costs what it must."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 4, 40_000).tolist()
    ruled = [0, 1]
    for _ in range(20_000):
        ruled.append((ruled[-1] + 2 * ruled[-2] + (random.random() < 0.05)) % 4)
    for tokens, low, high in ((ruled, 0.198, 0.4), (noise, np.log(4) - 0.005, np.log(4) + 0.01)):
        part = text(tokens)
        half = len(part.inputs) // 2
        train, judged = (Data(*(leaf[side] for leaf in part)) for side in (slice(half), slice(half, None)))
        assert low < experiment.trigrams(train, judged, judged, 4) < high


def test_moved_pictures_keep_their_labels():
    pictures = np.random.default_rng(0).normal(size=(5, 6, 6, 1)).astype(np.float32)
    found = experiment.moved(Data(pictures, np.arange(5)), copies=3)
    assert found.inputs.shape == (15, 6, 6, 1) and found.labels.tolist() == [*range(5)] * 3
    np.testing.assert_array_equal(found.inputs[:5], pictures)
    inside = {pictures[label, 2, 2, 0] for label in range(5)}
    for picture, label in zip(found.inputs[5:], found.labels[5:], strict=True):
        # two pixels each way leave those in the middle inside
        assert pictures[label, 2, 2, 0] in picture and len(inside & set(picture.ravel())) == 1
    assert not np.array_equal(found.inputs[5:10], pictures)


@pytest.mark.long
def test_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "methods", lambda config: [naive, weight_matching])
    monkeypatch.setattr(experiment, "in_all_kinds", lambda config: [weight_matching])
    config = experiment.read_config(["--preset", "smoke", "--images", "64", "--epochs", "12", "--out", str(tmp_path)])
    results = experiment.main(config)
    home = tmp_path / "transformer-gpt"
    assert report.read_json(home / "results.json") == json.loads(json.dumps(results))
    assert (home / "series.png").exists() and report.series_table(results) in capsys.readouterr().out
    everything = "weight matching, all kinds"
    assert results["settings"] == ["naive", "weight matching", everything]
    assert list(results["panels"]["barrier"]) == ["width 16"] == list(results["zoo"]["networks"])
    assert results["panels"]["share of the naive barrier"]["width 16"]["naive"]["mean"] == 1
    curve = results["curves"]["width 16"]["weight matching"]
    assert np.shape(curve["loss"]) == (1, 5) and 0 < curve["accuracy"][0][0] < 1
    alone = np.array(curve["loss"])[:, [0, -1]].mean()
    np.testing.assert_allclose(results["zoo"]["networks"]["width 16"]["loss"], alone, rtol=1e-4)
    # folded networks are the same functions
    np.testing.assert_allclose(
        np.array(results["curves"]["width 16"][everything]["loss"])[:, [0, -1]].mean(), alone, rtol=1e-4
    )
    assert results["zoo"]["trigrams"] > 0
    assert results["question"] in report.page(results)


def test_options():
    config = experiment.read_config(["--skip", "weight_matching+sinkhorn", "--norm", "rms"])
    assert "weight_matching+sinkhorn" not in map(str, experiment.methods(config))
    assert "weight_matching+sinkhorn" in map(str, experiment.in_all_kinds(config))
    config = experiment.read_config(["--skip", "weight_matching, all kinds"])
    assert "weight_matching" not in map(str, experiment.in_all_kinds(config))
    for kind in ("vit", "gpt"):
        config = experiment.read_config(["--kind", kind, "--norm", "rms"])
        assert set(config.widths) == set(experiment.KINDS[kind].recipes)
