"""Equivariant networks of e3nn: scalars and vectors with as many channels as one likes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from covered.case import Case, opened, vectors

NEEDS = ("e3nn-jax", "flax")


def module(forward: Callable[..., Any]) -> Callable[[], Case]:
    """`forward(e3nn, places, features)` is the call of a module; the features are four scalars and two vectors."""

    def build() -> Case:
        import e3nn_jax as e3nn
        import flax.linen as nn

        class Net(nn.Module):
            @nn.compact
            def __call__(self, places, features):
                return forward(e3nn, places, e3nn.IrrepsArray("4x0e + 2x1o", features)).array

        return opened(Net(), vectors(5, 3), vectors(5, 10), key=jax.random.key(0))

    return build


def gated(e3nn: Any, places: Any, x: Any) -> Any:
    x = e3nn.gate(e3nn.flax.Linear("8x0e + 5x0e + 5x1o")(x), even_act=jax.nn.silu)
    x = e3nn.gate(e3nn.flax.Linear("9x0e + 4x0e + 4x1o")(x))
    return e3nn.flax.Linear("2x0e + 1x1o")(x)


def filtered(e3nn: Any, places: Any, x: Any) -> Any:
    """Products with spherical harmonics, weighed by what a network makes of distances (NequIP)."""
    x = e3nn.flax.Linear("6x0e + 5x1o")(x)
    x = e3nn.tensor_product(x, e3nn.spherical_harmonics("0e + 1o + 2e", places, True), filter_ir_out=["0e", "1o"])
    weigh = e3nn.flax.MultiLayerPerceptron([12, x.irreps.num_irreps], jax.nn.silu)
    return e3nn.flax.Linear("2x0e + 1x1o")(x * weigh(jnp.sum(places**2, -1, keepdims=True)))


MODELS: dict[str, Callable[[], Case]] = {
    "Linear, gate": module(gated),
    "tensor_product, MultiLayerPerceptron": module(filtered),
}
