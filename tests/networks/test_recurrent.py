"""Recurrent networks: the three ways to write an LSTM compute the same."""

import chex
import jax
import numpy as np
import pytest

from dwalign.networks import Recurrent, recurrent
from tests import drawn

X = drawn.normal(2, 6, 3)


def test_lstm_cells_agree():
    plain, optimised, fused = (Recurrent((4,), 2, cell) for cell in ("lstm", "lstm_optimized", "lstm_fused"))
    params = drawn.started(plain.init, X)["params"]
    cell = params["cell_0"]
    order = "ifgo"
    kernel = np.concatenate(
        [np.concatenate([cell[f"{part}{gate}"]["kernel"] for gate in order], -1) for part in "ih"], axis=0
    )
    gates = {"kernel": kernel, "bias": np.concatenate([cell[f"h{gate}"]["bias"] for gate in order])}
    same = {"cell_0": {"gates": gates}, "head": params["head"]}
    out = jax.jit(plain.apply)({"params": params}, X)
    chex.assert_trees_all_close(jax.jit(optimised.apply)({"params": params}, X), out, atol=1e-5)
    chex.assert_trees_all_close(jax.jit(fused.apply)({"params": same}, X), out, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm_fused"])
def test_the_whole_sequence_is_read_and_lengths_may_differ(cell):
    net = recurrent(3, (4, 5), 2, cell, time=6)
    params, apply = drawn.started(net.init), jax.jit(net.apply)
    out = apply(params, X)
    for step in (0, 5):
        moved = X + np.float32(np.arange(6) == step)[:, None]
        assert np.abs(apply(params, moved) - out).max() > 1e-4
    assert jax.eval_shape(net.apply, params, X[:, :2]).shape == (2, 2)


def test_errors():
    with pytest.raises(ValueError, match=r"cell must be one of .*'gru'.* got 'rnn'"):
        recurrent(cell="rnn")
    with pytest.raises(ValueError, match="at least one hidden layer"):
        recurrent(widths=())
