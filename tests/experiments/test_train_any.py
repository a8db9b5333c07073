"""What the aligner for every architecture is trained, chosen and judged on are different things."""

import importlib
import json
import types

import chex
import jax
import numpy as np
import pytest
import train_any

from dwalign import deepalign, report, zoo
from dwalign.networks import mlp
from dwalign.program import Data
from dwalign.symmetry import count_networks, take_networks
from tests import drawn
from tests.compiled import compilations

ALL = {**train_any.TRAINED, **train_any.VALIDATION, **train_any.UNSEEN}


def test_no_setting_plays_two_roles(monkeypatch):
    # what they are made of tells them apart; their symmetries need not be looked for
    described = lambda *_, config, **__: types.SimpleNamespace(config=config)
    monkeypatch.setattr(importlib.import_module("dwalign.networks.network"), "network", described)
    assert len(ALL) == len(train_any.TRAINED) + len(train_any.VALIDATION) + len(train_any.UNSEEN)
    shapes = {"flat": (64,), "rows": (8, 8), "picture": (8, 8, 1)}
    made = [(one.make(shapes[one.form]), one.dataset) for one in ALL.values()]
    # networks that no registry can make again have no config
    found = [(json.dumps(network.config), dataset) for network, dataset in made if network.config]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("name", [name for name, one in ALL.items() if one.dataset == "digits"])
def test_networks_take_their_data(name):
    network, data = train_any.open_setting(train_any.Config(), ALL[name])
    outputs = jax.eval_shape(network.apply, network.params, data.test.inputs)
    assert outputs.shape == (len(data.test.labels), data.classes)


def test_what_ships_has_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(train_any.deepalign, "write_shipped", lambda *args: written.append(args))
    written: list = []
    points = {"any": {"mixer": {"mean": 0.25, "ci95": [0.2, 0.3]}}}
    found, config = train_any.Found({"w": np.ones(3)}, {"w": np.zeros(3)}), train_any.Config()
    train_any.ship(config, found, {"panels": {"barrier": points}})
    ((name, sees, blind, card),) = written
    assert name == "any" and (sees.config, blind.config) == (config.aligner, config.blind)
    assert sees.variables is found.sees and blind.variables is found.blind
    assert card["barrier"] == {"any": {"mixer": 0.25}} and card["licence"] == "MIT" and card["limits"]
    assert not set(card["trained_on"]) & set(card["chosen_on"])


def test_kinds_are_judged_into_files_of_their_own(tmp_path, monkeypatch):
    judged = lambda config, settings, found, kinds, file: written.append((kinds, file.name)) or {"of": kinds}
    monkeypatch.setattr(train_any, "judge_all", judged)
    asked = lambda *args: train_any.read_config(["--again", "--out", str(tmp_path), *args])
    for args, expected in {
        (): [("permutation", "results.json"), ("all", "kinds.json")],
        ("--kinds", "all"): [("all", "kinds.json")],
    }.items():
        written: list = []
        assert train_any.main(asked(*args))["of"] == expected[0][0] and written == expected
    with pytest.raises(report.RunError, match="with ship, kinds must hold permutation"):
        train_any.main(asked("--kinds", "all", "--ship"))


def test_what_ships_is_judged_again_as_it_is():
    config, found = train_any.Config(), train_any.shipped()
    for blind, variables in enumerate((found.sees, found.blind)):
        ships = deepalign.read_shipped("any", blind=bool(blind))
        assert ships.config == (config.aligner, config.blind)[blind]
        chex.assert_trees_all_equal(variables, ships.variables)


def rate(variables):
    return float(variables["params"]["rate"])


def at_best(train, validation):
    """Settings whose barriers are lowest at these rates, of which no network is trained."""
    far = lambda best: lambda variables: abs(rate(variables) - best)
    return {
        "stream": lambda config, setting: lambda number: far(train),
        "held_out": lambda config, setting: far(validation),
    }


def test_what_is_found_lowers_the_barrier_where_there_are_inputs(tmp_path, monkeypatch):
    for name, value in at_best(1, 1).items():
        monkeypatch.setattr(train_any, name, value)
    config = train_any.read_config(["--preset", "smoke", "--tries", "6", "--validate-every", "3"])
    found = train_any.train(config, tmp_path / "search")
    assert abs(rate(found.sees) - 1) < abs(rate(found.blind) - 1)
    again = train_any.train(train_any.read_config(["--preset", "smoke", "--tries", "0"]), tmp_path / "none")
    assert rate(again.sees) == rate(again.blind) == rate(found.blind)


def test_what_validation_says_is_worse_is_left(tmp_path, monkeypatch):
    for name, value in at_best(1, 0.3).items():
        monkeypatch.setattr(train_any, name, value)
    config = train_any.read_config(["--preset", "smoke", "--tries", "4", "--validate-every", "5"])
    found = train_any.train(config, tmp_path / "search")
    assert rate(found.sees) == rate(found.blind) == pytest.approx(0.3)


def test_rounds_take_settings_in_turn_and_networks_that_follow():
    asked = []
    part = lambda name: lambda number: asked.append((name, number)) or (lambda variables: 1.0)
    barrier = train_any.mixture([part(name) for name in "abc"], 2)
    for number in (0, 0, 1, 2, 2):
        assert barrier({}, number) == pytest.approx(np.log(1.01))
    assert asked == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("b", 1), ("c", 1)]


def test_networks_that_follow_compile_nothing_and_are_the_same_after_an_interruption(monkeypatch):
    some = Data(drawn.normal(40, 4, seed=1), np.arange(40) % 3)
    data = zoo.Dataset("drawn", some, some, some, 3)
    monkeypatch.setattr(train_any, "open_setting", lambda config, setting: (mlp(4, (6,), 3), data))
    config = train_any.read_config(["--preset", "smoke", "--networks.train", "5", "--recipe.batch-size", "20"])
    taken = []
    monkeypatch.setattr(train_any, "mean_barrier", lambda network, a, b, *_, **__: taken.append((a, b)))
    part = train_any.stream(config, None)
    part(0)
    with compilations() as seen:
        part(1)
    assert not seen
    # another process that begins with the second part
    train_any.stream(config, None)(1)
    chex.assert_trees_all_equal(taken[1], taken[2])
    # five are no multiple of the two devices
    assert jax.device_count() == 2 and all(count_networks(one) == 2 for pair in taken for one in pair)
    drawn_apart = np.concatenate([jax.tree.leaves(one)[1] for pair in taken[:2] for one in pair]).reshape(8, -1)
    assert len(np.unique(drawn_apart.round(4), axis=0)) == 8
    alone = zoo.train_networks(mlp(4, (6,), 3), some, config.recipe)(5 + np.arange(5))
    pairs = tuple(take_networks(alone, index) for index in zoo.held_out_pairs(5))
    chex.assert_trees_all_close(taken[1], pairs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("preset", ["default", "smoke", "hour", "minutes", "hours"])
def test_presets_name_settings_that_exist(preset):
    config = train_any.read_config(["--preset", preset])
    assert set(config.mixture) <= set(train_any.TRAINED) and set(config.validation) <= set(train_any.VALIDATION)
    assert config.settings_a_round <= len(config.mixture)
    # what a round ends with is among what validation chooses from
    assert config.tries <= config.tries_a_round or (config.tries_a_round + 1) % config.validate_every == 0
