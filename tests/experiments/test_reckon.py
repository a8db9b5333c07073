"""What is reckoned is counted right, and the simulation lies where a queue must lie."""

import dataclasses

import numpy as np
import pytest
import reckon

from dwalign.networks import mlp

CONFIG = reckon.Config(devices=8, spread=0.0, hours_between_failures=1e9)


def test_products_of_an_mlp_are_those_of_its_matrices():
    # 6 x 4 kernel and 4 biases for 4 units, 4 x 3 kernel for 4 units
    assert reckon.matching_products(mlp(6, (4,), 3), sweeps=2) == 2 * 2 * 4 * (24 + 4 + 12)


@pytest.mark.parametrize("compute, read, bound", [(1.0, 1.0, 100.0), (1e-6, 1e9, 8.0)])
def test_the_slower_of_computing_and_reading_decides(compute, read, bound):
    seconds = reckon.simulate(CONFIG, 800, compute, read)
    assert bound <= seconds <= 1.3 * bound


def test_failures_and_slow_devices_cost_time():
    calm = reckon.simulate(CONFIG, 8000, 10.0, 1.0)
    rough = dataclasses.replace(CONFIG, spread=0.2, hours_between_failures=1.0)
    seconds = [reckon.simulate(rough, 8000, 10.0, 1.0, seed) for seed in range(4)]
    assert calm == pytest.approx(10_000, rel=0.01) and np.min(seconds) > 1.05 * calm
