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

    own = model.params if params is None else params
    train = None if model.train is None else _apart(model.train)
    return Opened(_apart(model.apply), own, train, model.init, lambda path: path in statistics)


def _apart(function: Callable[[PyTree, PyTree], PyTree]) -> Callable[..., PyTree]:
    # several inputs are one tuple to a network
    return lambda params, *inputs: function(params, inputs if len(inputs) > 1 else inputs[0])


def shapes_of(model: Network) -> PyTree:
    return model.params


def into_model(model: Network, params: PyTree) -> PyTree:
    """The params, as its `apply` takes them."""
    return params
