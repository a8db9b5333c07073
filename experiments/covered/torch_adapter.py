"""A torch module as a function of its state dict, traced by torchax.

torchax 0.0.13 asks for overloads that torch 2.13 dropped; 0.0.14.dev20261026 works with torch 2.14.1.
"""

import copy
from typing import Any

import jax.numpy as jnp

from covered.case import Case

NEEDS = ("torch", "torchvision", "torchax")


def case(module: Any, *inputs: Any) -> Case:
    """In evaluation: statistics are read, nothing is dropped."""
    import torch
    import torchax
    from torchax.interop import jax_view, torch_view

    module.eval()
    _pass_by_position(torch.nn.functional)
    environment = torchax.default_env()
    arrays = lambda named: {name: tensor.detach().numpy().copy() for name, tensor in named}
    params = arrays(module.state_dict().items())
    # tables of positions and the like, which a state dict leaves out
    tables = arrays((name, one) for name, one in module.named_buffers() if name not in params)
    module.to("meta")

    def apply(params, *inputs):
        known = torch_view(params | {name: jnp.asarray(table) for name, table in tables.items()})
        # some modules remember what they computed
        fresh = copy.deepcopy(module)
        with environment:
            return jax_view(torch.func.functional_call(fresh, known, torch_view(inputs)))

    return Case(apply, params, inputs)


def _pass_by_position(functional: Any) -> None:
    """torchax has other names for the arguments of `linear` than torch."""
    linear = functional.linear
    if linear.__name__ != "by_position":

        def by_position(input, weight, bias=None):
            return linear(input, weight, bias)

        functional.linear = by_position
