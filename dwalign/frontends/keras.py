"""Models of Keras 3 on JAX: all variables by their path; statistics, seeds and counters are among them."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dwalign.extras import load
from dwalign.frontends.keras_names import check_layers, named, names_in_files, variables_of
from dwalign.frontends.models import Opened, check_shapes

__all__ = ["check_backend", "check_layers", "example_inputs", "into_model", "names_in_files", "open_model"]

PyTree = Any


def open_model(model: Any, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    check_backend()
    if not model.built:
        model(*_fed(inputs), **call)
    trainable, rest = (named(model, variables) for variables in variables_of(model))
    own = {name: np.array(variable.value) for name, variable in (trainable | rest).items()}

    def run(params, inputs):
        fixed = [params[name] for name in rest]
        weights = [params[name] for name in trainable]
        outputs, new = model.stateless_call(weights, fixed, *_fed(inputs), **{"training": False} | call)
        return outputs, {**params, **dict(zip(rest, new, strict=True))}

    def train(params, *inputs):
        with _renewing(norms):
            return run(params, inputs)

    norms = [layer for layer in model._flatten_layers() if isinstance(layer, load("keras").layers.BatchNormalization)]
    params = own if params is None else params
    return Opened(lambda params, *inputs: run(params, inputs)[0], params, train if norms else None)


def example_inputs(model: Any) -> tuple[np.ndarray, ...] | None:
    """Two examples of what the model was declared for, None where it was not or is open in more than their number."""
    shapes = [(2, *entry.shape[1:]) for entry in getattr(model, "inputs", None) or ()]
    whole = bool(shapes) and all(None not in shape for shape in shapes)
    return tuple(np.random.default_rng(0).standard_normal(shape, np.float32) for shape in shapes) if whole else None


def into_model(model: Any, params: PyTree) -> Any:
    """The model itself, its variables assigned."""
    trainable, rest = (named(model, variables) for variables in variables_of(model))
    variables = trainable | rest
    if variables.keys() != params.keys():
        raise ValueError(f"params must hold the variables {sorted(variables)}, found {sorted(params)}")
    check_shapes(variables, params)
    for name, variable in variables.items():
        variable.assign(params[name])
    return model


def check_backend() -> None:
    backend = load("keras").backend.backend()
    if backend != "jax":
        raise ValueError(
            f"Keras must run on JAX, found {backend!r}; set KERAS_BACKEND=jax in the environment before it is imported"
        )


def _fed(inputs: tuple[PyTree, ...]) -> list[PyTree]:
    """Several inputs are one list."""
    return [inputs[0] if len(inputs) == 1 else list(inputs)]


@contextlib.contextmanager
def _renewing(norms: list[Any]) -> Iterator[None]:
    """Batch normalisation as in training, whatever the model tells its layers, with statistics of its inputs alone."""

    def training(call):
        return lambda *args, **kwargs: call(*args, **{**kwargs, "training": True})

    own = [layer.momentum for layer in norms]
    for layer in norms:
        object.__setattr__(layer, "call", training(layer.call))
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(norms, own, strict=True):
            object.__delattr__(layer, "call")
            layer.momentum = momentum
