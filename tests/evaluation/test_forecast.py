"""Forecasts of barriers: what relabelling cannot change, what equal networks have, and the numbers that are shipped."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dwalign.evaluation import forecast, predict_barrier, traits
from dwalign.networks import mlp
from dwalign.program import network
from dwalign.symmetry import permute
from tests import drawn

RESULTS = Path(__file__).parents[2] / "results" / "will_it_merge.json"
NET = mlp(6, (8, 5), 3)
A, B = (drawn.weights(NET.params, seed) for seed in range(2))
INPUTS = drawn.normal(30, 6)


@pytest.mark.parametrize("inputs", [None, INPUTS], ids=["weights", "inputs"])
def test_relabelling_both_changes_nothing(inputs):
    perms = drawn.perms(NET.spec)
    moved = [permute(NET.spec, params, perms) for params in (A, B)]
    before, after = traits(NET, A, B, inputs=inputs), traits(NET, *moved, inputs=inputs)
    assert before == pytest.approx(after, rel=1e-4)
    found = forecast(NET, A, B, inputs=inputs)
    assert 0 <= found.low <= found.barrier < found.high


def test_equal_networks_merge_and_the_further_the_worse():
    other = lambda share: jax.tree.map(lambda a, b: (1 - share) * a + share * b, A, B)
    guesses = [forecast(NET, A, other(share), inputs=INPUTS).barrier for share in (0, 0.3, 1)]
    assert guesses[0] < 0.01 and guesses == sorted(guesses) and guesses[2] > 2 * guesses[1]


def test_the_numbers_are_those_of_the_experiment():
    results = json.loads(RESULTS.read_text())
    case = results["cases"]["unseen"][0]["traits"]
    by_hand = {kind: predict_barrier(case, line) for kind, line in results["lines"].items()}
    shipped = json.loads((Path(forecast.__code__.co_filename).with_suffix(".json")).read_text())
    assert shipped == results["lines"]
    assert {kind: predict_barrier(case, line) for kind, line in shipped.items()} == by_hand


def test_a_softmax_at_the_end_changes_no_forecast():
    sure = network(lambda params, x: jax.nn.softmax(NET.apply(params, x)), A, INPUTS)
    known, found = (forecast(net, A, B, inputs=INPUTS) for net in (NET, sure))
    assert found == pytest.approx(known, rel=1e-3)


def test_other_outputs_are_refused():
    net = network(lambda params, x: {"out": NET.apply(params, x)}, A, INPUTS)
    with pytest.raises(ValueError, match="one array of logits"):
        forecast(net, A, B, inputs=INPUTS)
    assert np.isfinite(forecast(net, A, B).barrier)
