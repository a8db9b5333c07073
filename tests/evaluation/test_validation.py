"""The mean barrier of pairs is that of their curves, and one program serves whoever asks about a network."""

import jax
import numpy as np
import pytest

from dwalign.evaluation import curve, mean_barrier
from dwalign.matching import naive
from dwalign.networks import mlp
from dwalign.program import Data
from tests import drawn
from tests.compiled import compilations

NET = mlp(4, (5,), 3)
ONES = [drawn.weights(NET.params, seed) for seed in range(6)]
DATA = Data(drawn.normal(20, 4, seed=1), np.arange(20) % 3)


def pairs(*numbers):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(ONES[k] for k in numbers))


def test_mean_of_pairs_by_one_program():
    two = mean_barrier(NET, pairs(0, 2), pairs(1, 3), DATA)(naive)
    with compilations() as seen:
        three = mean_barrier(NET, pairs(0, 2, 4), pairs(1, 3, 5), DATA)(naive)
    assert "one" not in [name.removeprefix("jit_") for name in seen]
    apart = [float(curve(NET, ONES[k], ONES[k + 1], DATA, points=3).barrier) for k in (0, 2, 4)]
    assert two == pytest.approx(np.mean(apart[:2]), rel=1e-5) and three == pytest.approx(np.mean(apart), rel=1e-5)


def test_each_pair_has_data_of_its_own():
    other = Data(drawn.normal(20, 4, seed=2), DATA.labels)
    both = Data(*(np.stack(leaves) for leaves in zip(DATA, other, strict=True)))
    found = mean_barrier(NET, pairs(0, 2), pairs(1, 3), both, per_pair=True)(naive)
    apart = [curve(NET, ONES[k], ONES[k + 1], data, points=3).barrier for k, data in ((0, DATA), (2, other))]
    assert found == pytest.approx(float(np.mean(apart)), rel=1e-5)
