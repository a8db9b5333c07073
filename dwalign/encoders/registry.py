"""Encoders by name, made of the few settings that all of them share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from dwalign.program import Network

PyTree = Any


class EncoderShape(NamedTuple):
    """How large an encoder is.

    Attributes:
      channels: its width; None is its own default.
      depth: rounds of messages or hidden layers; None as for channels.
      features: of a unit, where these are not responses to inputs.
      shared: groups and arrays of one role (`dwalign.symmetry.group_roles`) share parameters, so that it fits networks
        of other widths and depths.
    """

    channels: int | None = None
    depth: int | None = None
    features: int = 128
    shared: bool = False

    def given(self, **names: str) -> dict[str, Any]:
        """The settings that are not None, under other names: `given(channels="width")`."""
        found = {name: getattr(self, own) for own, name in names.items()}
        return {name: value for name, value in found.items() if value is not None}


Make = Callable[[Network, EncoderShape, PyTree], nn.Module]
ENCODERS: dict[str, Make] = {}
"""The declared encoders by name."""


def encoder(name: str) -> Callable[[Make], Make]:
    """Declare `(network, shape, probes) -> module` as the encoder of this name; probes are inputs `[m, ...]`.

    The module maps params to features `{group: [*batch, n, d]}`, equivariant to relabelling.
    """

    def declare(make):
        ENCODERS[name] = make
        return make

    return declare
