"""Models of Keras 3 on JAX: all variables by their path; statistics, seeds and counters are among them."""

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.extras import load
from dwalign.files import open_weights
from dwalign.frontends.models import Opened, check_shapes

PyTree = Any
BASE = 16  # all whole numbers below are in every type of Keras


def open_model(model: Any, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    check_backend()
    if not model.built:
        model(*_fed(inputs), **call)
    trainable, rest = (_named(model, variables) for variables in _variables(model))
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
    trainable, rest = (_named(model, variables) for variables in _variables(model))
    variables = trainable | rest
    if variables.keys() != params.keys():
        raise ValueError(f"params must hold the variables {sorted(variables)}, found {sorted(params)}")
    check_shapes(variables, params)
    for name, variable in variables.items():
        variable.assign(params[name])
    return model


def names_in_files(model: Any) -> dict[str, str]:
    """Where Keras puts each variable in a file of weights, `{path: layers/dense/vars/0}`; no rule is documented.

    The model saves its variables filled with numbers of their own, digit by digit: a variable of bfloat16 or int8 holds
    few. Some are in no file, such as the seeds of dropout.

    Raises:
      ValueError: a weight is not found again.
    """
    named = _named(model, _variables(model)[0]) | _named(model, _variables(model)[1])
    own = [np.array(variable.value) for variable in named.values()]
    numbers: Counter[str] = Counter()
    digit = 1
    try:
        while digit <= len(named):
            for number, variable in enumerate(named.values()):
                variable.assign(np.full(variable.shape, number // digit % BASE))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "numbers.weights.h5"
                model.save_weights(file)
                for name, array in open_weights(file).items():
                    if array.size:
                        numbers[name] += digit * int(np.ravel(array)[0])
            digit *= BASE
    finally:
        for value, variable in zip(own, named.values(), strict=True):
            variable.assign(value)
    found = {number: name for name, number in numbers.items()}
    if missing := [path for number, path in enumerate(named) if number not in found and named[path].trainable]:
        raise ValueError(f"Keras must save each weight of the model, but of {missing[:3]} nothing is found in a file")
    return {path: found[number] for number, path in enumerate(named) if number in found}


def check_backend() -> None:
    backend = load("keras").backend.backend()
    if backend != "jax":
        raise ValueError(
            f"Keras must run on JAX, found {backend!r}; set KERAS_BACKEND=jax in the environment before it is imported"
        )


def _variables(model: Any) -> tuple[list[Any], list[Any]]:
    return model.trainable_variables, model.non_trainable_variables


def _named(model: Any, variables: list[Any]) -> dict[str, Any]:
    """Variables by path; a path that occurs again is numbered."""
    order: dict[int, str] = {}
    count: dict[str, int] = {}
    path_of = _alone(model)
    for variable in (variable for group in _variables(model) for variable in group):
        path = path_of(variable)
        count[path] = count.get(path, 0) + 1
        order[id(variable)] = path + (f"_{count[path]}" if count[path] > 1 else "")
    return {order[id(variable)]: variable for variable in variables}


def _alone(model: Any) -> Callable[[Any], str]:
    """The path of a variable as it were if no model had been made before this one.

    Layers without a name of their own are called by their class and numbered over all models of a process, so that two
    of one architecture have no names in common.
    """
    classes = {type(layer).__name__.lower() for layer in model._flatten_layers()} | {"seedgenerator"}

    def split(part: str) -> tuple[str, int] | None:
        found = re.fullmatch(r"(.*?)(?:_(\d+))?", part)
        assert found is not None
        return (found[1], int(found[2] or 0)) if found[1].replace("_", "") in classes else None

    paths = [variable.path for group in _variables(model) for variable in group]
    numbered = sorted({one for path in paths for part in path.split("/") if (one := split(part))})
    first = {name: k for k, (name, _) in reversed(list(enumerate(numbered)))}
    own = {(name, number): k - first[name] for k, (name, number) in enumerate(numbered)}

    def part_of(part: str) -> str:
        one = split(part)
        return part if one is None else one[0] + (f"_{own[one]}" if own[one] else "")

    return lambda variable: "/".join(map(part_of, variable.path.split("/")))


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
