"""How a linen module comes to be a network."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dwalign.kept import anew
from dwalign.program import Network, network


def from_module(model: nn.Module, example: np.ndarray, config: Mapping[str, Any]) -> Network:
    """The network of a linen module: spec and capture are read off its program.

    Args:
      model: called on inputs alone; one with batch statistics also takes `train=True`.
      example: inputs `[m, ...]` of any content.
      config: what `build` needs to make it again.
    """
    of_module = functools.partial(Compiled, model=model, shape=example.shape, dtype=example.dtype)
    init, apply, train = map(of_module, (_init, _apply, _train))
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


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A function of a module: one program wherever it is called, and one trace for all who read it.

    Of equal modules they are equal: what was compiled for one network is found for the other, as for the next copy that
    comes to another process.

    Attributes:
      function: `(model, example, *arguments)`.
      model: which is not told apart by its hash, since its attributes may be lists.
      shape, dtype: of the example.
    """

    function: Callable
    model: nn.Module = dataclasses.field(hash=False)
    shape: tuple[int, ...]
    dtype: np.dtype

    @functools.cached_property
    def program(self) -> Callable:
        # of its parts alone, which go when it goes: no cycle
        known = functools.partial(self.function, self.model, np.zeros(self.shape, self.dtype))
        return jax.jit(lambda *arguments: known(*arguments), inline=True)

    def __call__(self, *arguments):
        return self.program(*arguments)

    def __reduce__(self):
        return anew(self)


def _init(model, example, key):
    return model.init(key, example)


def _apply(model, _, params, inputs):
    return model.apply(params, inputs)


def _train(model, _, params, inputs):
    outputs, updated = model.apply(params, inputs, train=True, mutable=["batch_stats"])
    return outputs, {**params, **updated}
