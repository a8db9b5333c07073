"""What the aligner for every architecture is trained, chosen and judged on are different things."""

import importlib
import json
import types

import jax
import numpy as np
import pytest
import train_any

ALL = {**train_any.MIXTURE, **train_any.VALIDATION, **train_any.UNSEEN}


def test_no_setting_plays_two_roles(monkeypatch):
    # what they are made of tells them apart; their symmetries need not be looked for
    described = lambda *_, config, **__: types.SimpleNamespace(config=config)
    monkeypatch.setattr(importlib.import_module("dwalign.networks.network"), "network", described)
    assert len(ALL) == len(train_any.MIXTURE) + len(train_any.VALIDATION) + len(train_any.UNSEEN)
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


def test_what_is_found_lowers_the_barrier_where_there_are_inputs(tmp_path, monkeypatch):
    rate = lambda variables: float(variables["params"]["rate"])
    monkeypatch.setattr(train_any, "barrier", lambda config, setting, role: lambda variables: abs(rate(variables) - 1))
    config = train_any.read_config(["--preset", "smoke", "--tries", "6", "--validate-every", "3"])
    found = train_any.train(config, tmp_path / "search")
    assert abs(rate(found.sees) - 1) < abs(rate(found.blind) - 1)
    again = train_any.train(train_any.read_config(["--preset", "smoke", "--tries", "0"]), tmp_path / "none")
    assert rate(again.sees) == rate(again.blind) == rate(found.blind)


def test_what_validation_says_is_worse_is_left(tmp_path, monkeypatch):
    rate = lambda variables: float(variables["params"]["rate"])
    best = {"train": 1.0, "validation": 0.3}
    far = lambda config, setting, role: lambda variables: abs(rate(variables) - best[role])
    monkeypatch.setattr(train_any, "barrier", far)
    config = train_any.read_config(["--preset", "smoke", "--tries", "4", "--validate-every", "5"])
    found = train_any.train(config, tmp_path / "search")
    assert rate(found.sees) == rate(found.blind) == pytest.approx(0.3)
