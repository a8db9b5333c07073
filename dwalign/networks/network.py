"""How a linen module comes to be a network."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from dwalign.program import Network, network


def from_module(model: nn.Module, example: jax.Array, config: Mapping[str, Any]) -> Network:
    """The network of a linen module: spec and capture are read off its program.

    Args:
      model: called on inputs alone; one with batch statistics also takes `train=True`.
      example: inputs `[m, ...]` of any content.
      config: what `build` needs to make it again.
    """

    # one program each where they are called, and one trace for all who read them
    @jax.jit
    def init(key):
        return model.init(key, example)

    @functools.partial(jax.jit, inline=True)
    def apply(params, inputs):
        return model.apply(params, inputs)

    def train(params, inputs):
        outputs, updated = model.apply(params, inputs, train=True, mutable=["batch_stats"])
        return outputs, {**params, **updated}

    abstract = jax.eval_shape(init, jax.random.key(0))
    return network(
        apply,
        abstract,
        example,
        train=train if "batch_stats" in abstract else None,
        init=init,
        config=config,
        statistics={name: name == "batch_stats" for name in abstract},
    )
