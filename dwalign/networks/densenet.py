"""DenseNet (Huang et al. 2017): every layer reads all before it, side by side."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dwalign.bounds import Count, Shape, bounded
from dwalign.networks.network import from_module
from dwalign.networks.norm import Norm, make_norm
from dwalign.program import Network


class DenseNet(nn.Module):
    """Stages of layers that each add `growth` channels, halved between the stages; inputs `[batch, h, w, c]`."""

    stem: int
    growth: int
    layers: Sequence[int]
    outputs: int
    norm: str | None = "batch"

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(self.stem, (3, 3), use_bias=False, name="stem")(x)
        for s, layers in enumerate(self.layers):
            if s > 0:
                h = nn.relu(make_norm(self.norm, train=train, name=f"norm_{s}")(x))
                h = nn.Conv(x.shape[-1] // 2, (1, 1), use_bias=False, name=f"transition_{s}")(h)
                x = nn.avg_pool(h, (2, 2), (2, 2))
            for k in range(layers):
                h = nn.relu(make_norm(self.norm, train=train, name=f"norm_{s}_{k}")(x))
                h = nn.Conv(self.growth, (3, 3), use_bias=False, name=f"conv_{s}_{k}")(h)
                x = jnp.concatenate([x, h], axis=-1)
        x = nn.relu(make_norm(self.norm, train=train, name="norm")(x))
        return nn.Dense(self.outputs, name="head")(x.mean((1, 2)))


@bounded
def densenet(
    shape: Shape = (32, 32, 3),
    stem: Count = 16,
    growth: Count = 8,
    layers: Sequence[Count] = (3, 3, 3),
    outputs: Count = 10,
    norm: Norm | None = "batch",
) -> Network:
    """A DenseNet.

    Args:
      shape: of one image `(h, w, c)`.
      stem: channels of the first convolution.
      growth: channels that a layer adds.
      layers: of each stage.
      norm: "batch", "layer" or None.
    """
    if min(shape[:2]) < 2 ** (len(layers) - 1):
        raise ValueError(
            f"densenet: every stage after the first halves the image, got {len(layers)} stages and shape "
            f"{tuple(shape)}; use fewer stages"
        )
    config = {
        "kind": "densenet",
        "shape": list(shape),
        "stem": stem,
        "growth": growth,
        "layers": list(layers),
        "outputs": outputs,
        "norm": norm,
    }
    return from_module(DenseNet(stem, growth, tuple(layers), outputs, norm), np.zeros((1, *shape), np.float32), config)
