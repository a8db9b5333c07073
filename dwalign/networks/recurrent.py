"""Recurrent networks that classify a sequence by their last state."""

from collections.abc import Sequence
from typing import Annotated

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Widths, bounded, one_of
from dwalign.networks.network import from_module
from dwalign.program import Network


class FusedLSTMCell(nn.RNNCellBase):
    """An LSTM cell with one dense layer, from the input beside the state to the four gates beside each other."""

    features: int

    @nn.compact
    def __call__(self, carry, x):
        memory, state = carry
        gates = nn.Dense(4 * self.features, name="gates")(jnp.concatenate([x, state], axis=-1))
        let_in, keep, new, show = jnp.split(gates, 4, axis=-1)
        memory = nn.sigmoid(keep) * memory + nn.sigmoid(let_in) * jnp.tanh(new)
        state = nn.sigmoid(show) * jnp.tanh(memory)
        return (memory, state), state

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        zeros = jnp.zeros((*input_shape[:-1], self.features))
        return zeros, zeros

    @property
    def num_feature_axes(self) -> int:
        return 1


CELLS = {
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
    "lstm_optimized": nn.OptimizedLSTMCell,
    "lstm_fused": FusedLSTMCell,
}


class Recurrent(nn.Module):
    """Recurrent layers on top of each other, then a dense layer; inputs `[batch, time, features]`."""

    widths: Sequence[int]
    outputs: int
    cell: str = "gru"

    @nn.compact
    def __call__(self, x):
        for k, width in enumerate(self.widths):
            x = nn.RNN(CELLS[self.cell](width, name=f"cell_{k}"))(x)
        return nn.Dense(self.outputs, name="head")(x[:, -1])


@bounded
def recurrent(
    inputs: Count = 8,
    widths: Widths = (32,),
    outputs: Count = 10,
    cell: Annotated[str, one_of(CELLS)] = "gru",
    time: Count = 8,
) -> Network:
    """A recurrent classifier.

    Args:
      inputs: features of one step.
      widths: units of each layer.
      cell: "gru", "lstm", "lstm_optimized" (flax's, gates concatenated when it runs) or "lstm_fused" (one kernel).
      time: steps of the sequences that it is built with; it takes any.
    """
    config = {
        "kind": "recurrent",
        "inputs": inputs,
        "widths": list(widths),
        "outputs": outputs,
        "cell": cell,
        "time": time,
    }
    return from_module(Recurrent(tuple(widths), outputs, cell), np.zeros((1, time, inputs), np.float32), config)
