"""The contract of a network that gets aligned."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from dwalign.symmetry import PermutationSpec

PyTree = Any


class Units(NamedTuple):
    """What the hidden units compute: for each group `[batch, n]`, before and after the non-linearity."""

    pre: dict[str, jax.Array]
    post: dict[str, jax.Array]


class Network(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: `key -> params`.
      apply: `(params, inputs) -> outputs`.
      capture: `(params, inputs, shifts=None) -> (outputs, Units)`; `shifts` (group to `[batch, n]`) are added to the
        pre-activations, so that gradients with respect to them are the units' back-propagated sensitivities.
      spec: its permutation symmetries.
      config: what `dwalign.networks.build` needs to make it again, plain JSON values.
    """

    init: Callable[[jax.Array], PyTree]
    apply: Callable[[PyTree, jax.Array], jax.Array]
    capture: Callable[..., tuple[jax.Array, Units]]
    spec: PermutationSpec
    config: dict[str, Any]
