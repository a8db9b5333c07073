"""Multi-layer perceptrons of any depth."""

from collections.abc import Sequence

import flax.linen as nn
import numpy as np

from dwalign.bounds import Count, Widths, bounded
from dwalign.networks.network import from_module
from dwalign.program import Network


class MLP(nn.Module):
    """Dense layers with ReLU between; inputs `[batch, ...]` are flattened."""

    widths: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, name=f"dense_{k}")(x))
        return nn.Dense(self.outputs, name=f"dense_{len(self.widths)}")(x)


@bounded
def mlp(inputs: Count, widths: Widths, outputs: Count) -> Network:
    """A ReLU MLP; `inputs` is the number of input values, `widths` the hidden widths.

    Group `h{k}` of its spec holds the units of hidden layer k.
    """
    config = {"kind": "mlp", "inputs": inputs, "widths": list(widths), "outputs": outputs}
    return from_module(MLP(tuple(widths), outputs), np.zeros((1, inputs), np.float32), config)
