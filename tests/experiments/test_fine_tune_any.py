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


def test_no_network_is_learned_from_and_judged_on():
    few = fine_tune_any.Config().few
    # those that are judged have seeds from 500,000,000 on
    assert few.pairs == 0 and few.train + few.validation == 20
