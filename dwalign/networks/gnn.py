"""A graph network: every node reads the mean of its neighbours (Hamilton et al. 2017)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np

from dwalign.bounds import Count, Widths, bounded
from dwalign.networks.network import from_module
from dwalign.program import Network


class GNN(nn.Module):
    """Layers of `relu(node + mean over neighbours)`; inputs `[batch, nodes, nodes + features]`.

    The first columns of the inputs are the adjacency matrix: row i weighs the nodes that node i reads.
    """

    widths: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x):
        nodes = x.shape[-2]
        adjacency, x = x[..., :nodes], x[..., nodes:]
        adjacency = adjacency * jax.lax.rsqrt(adjacency.sum(-1, keepdims=True) ** 2 + 1e-6)
        for k, width in enumerate(self.widths):
            read = nn.Dense(width, use_bias=False, name=f"neighbours_{k}")(adjacency @ x)
            x = nn.relu(nn.Dense(width, name=f"node_{k}")(x) + read)
        return nn.Dense(self.outputs, name="head")(x)


@bounded
def gnn(nodes: Count = 16, features: Count = 8, widths: Widths = (32, 32), outputs: Count = 4) -> Network:
    """A graph network; outputs `[batch, nodes, outputs]`.

    Args:
      nodes: of the graphs that it is built with; it takes any number.
      features: of each node.
      widths: units of each layer.
    """
    config = {"kind": "gnn", "nodes": nodes, "features": features, "widths": list(widths), "outputs": outputs}
    return from_module(GNN(tuple(widths), outputs), np.zeros((1, nodes, nodes + features), np.float32), config)
