"""What ships, untied, is still what ships; a search keeps what is better, and is the same wherever it goes on."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import (
    Aligner,
    begin_search,
    fit_aligner,
    make_model,
    make_search,
    search,
    shipped,
    train_aligner,
    untie,
)
from dwalign.networks import mlp
from tests import drawn

NET = mlp(4, (5, 6), 3)
INPUTS = drawn.normal(30, 4, seed=1)
START = {"params": {"rate": jnp.float32(0.3), "updates": jnp.full(3, 0.5), "inputs": jnp.ones((2, 4))}}


def far_from(value):
    """A barrier that is lowest where the rate is this."""
    return lambda variables, number=0: abs(variables["params"]["rate"] - value)


def test_untied_it_compares_as_what_ships_and_descends_as_it(monkeypatch):
    shape, variables = shipped.read_shipped("any")
    small = dataclasses.replace(shape, probes=16)
    monkeypatch.setattr(search, "read_shipped", lambda name: (small, variables))
    tied = fit_aligner(Aligner(make_model(NET, small, INPUTS), variables), NET)
    untied, _ = untie(NET, INPUTS)
    latents = lambda aligner, a, b: aligner.model.apply(
        aligner.variables, a, b, method=lambda model, a, b: model.update(a, model.encode(a), b, model.encode(b))
    )
    found = jax.jit(lambda a, b: [latents(one, a, b) for one in (tied, untied)])
    for seed in range(3):
        chex.assert_trees_all_close(*found(*(drawn.weights(NET.params, 2 * seed + k) for k in range(2))), rtol=1e-4)
    own = untied.variables["params"]
    assert own["rate"] == variables["params"]["rate"] and own["spread"] == variables["params"]["spread"]
    assert own["sharpness"] == 1 and np.array_equal(own["inputs"], INPUTS[:16])


def test_a_search_keeps_what_is_lower_and_moves_no_inputs():
    barrier, step = far_from(0.8), make_search(far_from(0.8))
    state, lowest = begin_search(START), []
    for _ in range(30):
        before = state.variables
        state, losses = step(state)
        lowest.append(float(losses.sum()))
        assert barrier(state.variables) == pytest.approx(lowest[-1])
        moved = not np.array_equal(before["params"]["updates"], state.variables["params"]["updates"])
        assert moved == (len(lowest) > 1 and lowest[-1] < lowest[-2])
    assert lowest[0] == pytest.approx(0.5) and lowest[-1] < 0.1
    chex.assert_trees_all_equal(state.variables["params"]["inputs"], START["params"]["inputs"])


def test_what_is_not_finite_is_not_kept():
    values = iter([1.0, float("nan"), 0.5])
    step, state = make_search(lambda *_: next(values)), begin_search(START)
    found = []
    for _ in range(3):
        state, losses = step(state)
        found.append(float(losses.sum()))
    assert found == [1.0, 1.0, 0.5]


def test_every_round_compares_on_networks_of_its_own():
    asked = []

    def barrier(variables, number):
        asked.append((number, variables))
        return far_from([0.8, 0.1][number % 2])(variables)

    step, state, lowest = make_search(barrier, every=3), begin_search(START), []
    for _ in range(9):
        state, losses = step(state)
        lowest.append(float(losses.sum()))
    assert [number for number, _ in asked] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    rates = [float(variables["params"]["rate"]) for _, variables in asked]
    best = 0.3
    for number, wanted in enumerate((0.8, 0.1, 0.8)):
        seen = rates[3 * number : 3 * number + 3]
        # what the last round kept is found first, whatever it left there
        assert seen[0] == pytest.approx(best)
        best = min(seen, key=lambda rate: abs(rate - wanted))
        assert lowest[3 * number + 2] == pytest.approx(abs(best - wanted))
    assert float(state.variables["params"]["rate"]) == pytest.approx(best)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_search_goes_on_where_it_was_interrupted(tmp_path, cut):
    def train(folder, steps):
        return train_aligner(
            make_model(NET, shipped.read_shipped("any")[0], INPUTS),
            make_search(lambda variables, number: far_from(0.8 - 0.2 * number)(variables), every=2),
            begin_search(START, seed=3),
            steps=steps,
            validate=lambda aligner: float(far_from(0.7)(aligner.variables)),
            validate_every=1,
            folder=tmp_path / folder,
            info={},
            resume=True,
        )

    whole = train("whole", 4)
    train("cut", cut)
    again = train("cut", 4)
    assert again.metrics == whole.metrics and again.best_step == whole.best_step
    chex.assert_trees_all_equal(again.aligner.variables, whole.aligner.variables)
