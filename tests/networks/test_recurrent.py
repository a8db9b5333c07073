"""Recurrent networks: the three ways to write an LSTM compute the same."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dwalign.networks import Recurrent, recurrent

X = jax.random.normal(jax.random.key(0), (2, 6, 3))


def test_lstm_cells_agree():
    plain, optimised, fused = (Recurrent((4,), 2, cell) for cell in ("lstm", "lstm_optimized", "lstm_fused"))
    params = jax.jit(plain.init)(jax.random.key(1), X)["params"]
    params["cell_0"]["hf"]["bias"] += jnp.arange(4.0)
    out = plain.apply({"params": params}, X)
    chex.assert_trees_all_close(optimised.apply({"params": params}, X), out, atol=1e-5)
    cell = params["cell_0"]
    order = "ifgo"
    kernel = jnp.concatenate(
        [jnp.concatenate([cell[f"{part}{gate}"]["kernel"] for gate in order], -1) for part in "ih"], axis=0
    )
    gates = {"kernel": kernel, "bias": jnp.concatenate([cell[f"h{gate}"]["bias"] for gate in order])}
    same = fused.apply({"params": {"cell_0": {"gates": gates}, "head": params["head"]}}, X)
    chex.assert_trees_all_close(same, out, atol=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm_fused"])
def test_the_whole_sequence_is_read_and_lengths_may_differ(cell):
    net = recurrent(3, (4, 5), 2, cell, time=6)
    params = jax.jit(net.init)(jax.random.key(0))
    out = net.apply(params, X)
    for step in (0, 5):
        assert jnp.abs(net.apply(params, X.at[:, step].add(1.0)) - out).max() > 1e-4
    assert net.apply(params, X[:, :2]).shape == (2, 2)


def test_errors():
    with pytest.raises(ValueError, match=r"cell must be one of .*'gru'.* got 'rnn'"):
        recurrent(cell="rnn")
    with pytest.raises(ValueError, match="at least one layer"):
        recurrent(widths=())
