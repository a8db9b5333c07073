"""Networks that are pure functions already, as `dwalign.network` and `dwalign.networks` make them."""

from collections.abc import Callable
from typing import Any

from dwalign.frontends.models import Opened
from dwalign.program import Network

PyTree = Any


def open_model(model: Network, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    if call:
        raise ValueError(f"a network takes no keyword arguments, found {sorted(call)}; let its function set them")
    statistics = set(model.spec.statistics)

    def apart(function: Callable[[PyTree, PyTree], PyTree]) -> Callable[..., PyTree]:
        # several inputs are one tuple to a network, which would take the rows of a single array for them
        several = isinstance(model.example, tuple) or len(inputs) > 1
        return lambda params, *inputs: function(params, inputs if several else inputs[0])

    # a network holds the shapes of its parameters alone
    own = params if params is not None else model.params if key is None else model.init(key)
    train = None if model.train is None else apart(model.train)
    return Opened(apart(model.apply), own, train, model.init, lambda path: path in statistics)


def shapes_of(model: Network, *inputs: PyTree) -> PyTree:
    return model.params


def into_model(model: Network, params: PyTree) -> PyTree:
    """The params, as its `apply` takes them."""
    return params
