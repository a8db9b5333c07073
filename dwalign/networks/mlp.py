"""Multi-layer perceptrons of any depth."""

import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from dwalign.networks.network import Network, Units
from dwalign.symmetry import Axes, PermutationSpec


class MLP(nn.Module):
    """Dense layers with ReLU between; inputs `[batch, ...]` are flattened."""

    widths: Sequence[int]
    outputs: int

    @nn.compact
    def __call__(self, x, shifts=None):
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            pre = nn.Dense(width, name=f"dense_{k}")(x)
            if shifts is not None:
                pre = pre + shifts[f"h{k}"]
            x = nn.relu(pre)
            self.sow("intermediates", f"h{k}", Units(pre, x), reduce_fn=lambda _, new: new)
        return nn.Dense(self.outputs, name=f"dense_{len(self.widths)}")(x)


def mlp_spec(depth_widths: Sequence[int]) -> PermutationSpec:
    """The spec of `MLP` with these hidden widths: group `h{k}` holds the units of hidden layer k."""
    groups = [None, *(f"h{k}" for k in range(len(depth_widths))), None]
    axes = {
        f"dense_{k}": {"bias": Axes(after), "kernel": Axes(before, after)}
        for k, (before, after) in enumerate(itertools.pairwise(groups))
    }
    return PermutationSpec({"params": axes}, {f"h{k}": width for k, width in enumerate(depth_widths)})


def mlp(inputs: int, widths: Sequence[int], outputs: int) -> Network:
    """A ReLU MLP; `inputs` is the number of input values, `widths` the hidden widths."""
    if not widths:
        raise ValueError("mlp: widths must name at least one hidden layer, otherwise there is nothing to align")
    model = MLP(tuple(widths), outputs)

    def capture(params, x, shifts=None):
        out, state = model.apply(params, x, shifts, mutable=["intermediates"])
        units = state["intermediates"]
        return out, Units({g: u.pre for g, u in units.items()}, {g: u.post for g, u in units.items()})

    return Network(
        init=lambda key: model.init(key, jnp.zeros((1, inputs))),
        apply=model.apply,
        capture=capture,
        spec=mlp_spec(widths),
        config={"kind": "mlp", "inputs": inputs, "widths": list(widths), "outputs": outputs},
    )
