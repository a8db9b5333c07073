"""The normalisation layers that networks choose from by name."""

from collections.abc import Callable
from typing import Annotated

import flax.linen as nn
import jax

from dwalign.bounds import one_of

NORMS = ("batch", "layer", "rms", "group")
Norm = Annotated[str, one_of(NORMS)]


def make_norm(kind: str | None, *, name: str, train: bool = False, groups: int = 1) -> Callable[[jax.Array], jax.Array]:
    """A linen layer for arrays `[..., channels]`, or the identity for None.

    Args:
      kind: one of `NORMS`. Batch statistics are those of the last training batch: those of weights that were permuted,
        averaged or merged have to be computed anew anyway.
      name: of the layer among the parameters.
      train: whether batch normalisation uses (and stores) the statistics of its inputs.
      groups: of channels, for group normalisation.

    Raises:
      ValueError: an unknown kind.
    """
    if kind is None:
        return lambda x: x
    if kind == "batch":
        return nn.BatchNorm(use_running_average=not train, momentum=0.0, name=name)
    if kind == "layer":
        return nn.LayerNorm(name=name)
    if kind == "rms":
        return nn.RMSNorm(name=name)
    if kind == "group":
        return nn.GroupNorm(num_groups=groups, name=name)
    raise ValueError(f"norm: must be one of {NORMS} or None, got {kind!r}")
