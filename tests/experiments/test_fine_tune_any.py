"""What fine-tuning is put beside was measured on the same pairs."""

import dataclasses
import json

import fine_tune_any
import pytest

from dwalign import report


def config(folder, *args):
    return fine_tune_any.read_config(["--out", str(folder), "--unseen", "mixer", *args])


def told(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))


def test_methods_that_saw_no_network_of_the_setting(judged_before):
    asked = config(judged_before)
    found = fine_tune_any.measured_before(asked, told(asked))
    assert list(found) == [
        "weight matching",
        "anchored weight matching",
        "activation matching",
        "activation matching (correlations)",
        "any on inputs",
    ]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--recipe.epochs", "3"], "the same recipe"),
        (["--networks.pairs", "10", "--chunk", "10"], "the same networks"),
        (["--unseen", "GRU"], r"must hold \['GRU'\]"),
    ],
)
def test_other_pairs_are_refused(judged_before, args, words):
    asked = config(judged_before, *args)
    with pytest.raises(report.RunError, match=words):
        fine_tune_any.measured_before(asked, told(asked))


def test_barriers_are_kept_beside_what_was_found_last(judged_before, monkeypatch):
    """What is beside them is that of train_any.py, and nothing is trained or judged."""
    point = lambda mean: {"mixer": {"mean": mean, "ci95": [0.4, 0.6]}}
    (judged_before / "any-fine-tuned").mkdir()
    kept = {method: point(0.5) for method in fine_tune_any.TUNED}
    before = {"settings": ["mixer"], "panels": {"barrier": kept | {"weight matching": point(7.0)}}}
    report.write_json(judged_before / "any-fine-tuned" / "results.json", before)
    monkeypatch.setattr(fine_tune_any, "judge", None)
    with pytest.raises(report.RunError, match=r"must hold \['GRU'\] to keep what they left, found \['mixer'\]"):
        fine_tune_any.main(config(judged_before, "--again", "--unseen", "GRU"))
    found = fine_tune_any.main(config(judged_before, "--again"))["panels"]["barrier"]
    assert {method: found[method] for method in fine_tune_any.TUNED} == kept
    assert found["weight matching"] == {"mixer": {"mean": 1.0, "ci95": [0.9, 1.1]}}


def test_no_network_is_learned_from_and_judged_on():
    few = fine_tune_any.Config().few
    # those that are judged have seeds from 500,000,000 on
    assert few.pairs == 0 and few.train + few.validation == 20
