"""What variables and layers of Keras 3 are called: in a model, and in files of its weights.

A file has places, `layers/dense_1/vars/0`, that count the layers of each class in their order. Keras loads by place and
never looks at the names beside it, so that layers of one shape change places without a word.
"""

import contextlib
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.files import FileError, Weights, open_weights, reading
from dwalign.files.keras import read_config

BASE = 16  # all whole numbers below are in every type of Keras


def variables_of(model: Any) -> tuple[list[Any], list[Any]]:
    return model.trainable_variables, model.non_trainable_variables


def named(model: Any, variables: list[Any]) -> dict[str, Any]:
    """Variables by path; a path that occurs again is numbered, over all of the model."""
    order: dict[int, str] = {}
    count: dict[str, int] = {}
    paths = [variable.path for group in variables_of(model) for variable in group]
    alone = _alone(model, (part for path in paths for part in path.split("/")))
    for variable in (variable for group in variables_of(model) for variable in group):
        path = "/".join(map(alone, variable.path.split("/")))
        count[path] = count.get(path, 0) + 1
        order[id(variable)] = path + (f"_{count[path]}" if count[path] > 1 else "")
    return {order[id(variable)]: variable for variable in variables}


def names_in_files(model: Any) -> dict[str, str]:
    """Where Keras puts each variable in a file of weights, `{path: layers/dense/vars/0}`; no rule is documented.

    The model saves its variables filled with numbers of their own, digit by digit: a variable of bfloat16 or int8 holds
    few. Some are in no file, such as the seeds of dropout.

    Raises:
      ValueError: a weight is not found again.
    """
    variables = named(model, variables_of(model)[0]) | named(model, variables_of(model)[1])
    own = [np.array(variable.value) for variable in variables.values()]
    numbers: Counter[str] = Counter()
    digit = 1
    try:
        while digit <= len(variables):
            for number, variable in enumerate(variables.values()):
                variable.assign(np.full(variable.shape, number // digit % BASE))
            with _saved(model) as weights:
                for name, array in weights.items():
                    if array.size:
                        numbers[name] += digit * int(np.ravel(array)[0])
            digit *= BASE
    finally:
        for value, variable in zip(own, variables.values(), strict=True):
            variable.assign(value)
    found = {number: name for name, number in numbers.items()}
    lost = [path for number, path in enumerate(variables) if number not in found and variables[path].trainable]
    if lost:
        raise ValueError(f"Keras must save each weight of the model, but of {lost[:3]} nothing is found in a file")
    return {path: found[number] for number, path in enumerate(variables) if number in found}


def check_layers(model: Any, weights: Weights) -> None:
    """Raise `FileError` where a file has layers of the model at places of others.

    A name that somebody gave belongs to a layer. The numbers of other names tell the order in which layers were made,
    which need not be that of their places: there the architecture decides, where the file has it.
    """
    with _saved(model) as own:
        common = own.metadata.keys() & weights.metadata.keys()
        here, there = (_layers(model, {place: one.metadata[place] for place in common}) for one in (own, weights))
    moved = sorted(name for name in here.keys() & there.keys() if here[name] != there[name])
    faults = [f"{name} at {there[name]} that is {here[name]} in the model" for name in moved]
    config = read_config(weights.path)
    if config is not None:
        with reading(weights.path, "a file of Keras that tells its architecture"):
            kinds = _kinds(config)
        mine = _kinds(json.loads(model.to_json()))
        if kinds == mine:
            split = _numbered(model)
            faults = [fault for name, fault in zip(moved, faults, strict=True) if not any(map(split, name.split("/")))]
        elif sorted(kinds) == sorted(mine):
            other = next(pair for pair in zip(kinds, mine, strict=True) if len(set(pair)) > 1)
            faults.append("in config.json {:.200} that is {:.200} in the model".format(*other))
    if faults:
        raise FileError(
            f"{weights.path} must have the layers of the model in its order, found {faults[0]}; make and call them in "
            "the order of the model that was saved"
        )


@contextlib.contextmanager
def _saved(model: Any) -> Iterator[Weights]:
    """A file of the model's weights as they are."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "own.weights.h5"
        model.save_weights(file)
        yield open_weights(file)


def _layers(model: Any, called: Mapping[str, str]) -> dict[str, str]:
    """Where layers lie, by their names inside the layers around them; those that share a name are left out."""
    alone = _alone(model, called.values())
    found: dict[str, list[str]] = {}
    for place in called:
        parts = place.split("/")
        around = ("/".join(parts[: k + 1]) for k in range(len(parts)))
        found.setdefault("/".join(alone(called[outer]) for outer in around if outer in called), []).append(place)
    return {name: same[0] for name, same in found.items() if len(same) == 1}


def _kinds(config: Any) -> list[str]:
    """The layers of an architecture in their order, each with its class and options."""
    inner = config["config"].get("layers")
    if inner is None:
        return [json.dumps([config["class_name"], _options(config["config"])], sort_keys=True)]
    return [kind for layer in inner for kind in _kinds(layer)]


def _options(value: Any) -> Any:
    """All of them but names and numbers of objects, which are others in every model."""
    if isinstance(value, dict):
        return {key: _options(one) for key, one in value.items() if key not in ("name", "shared_object_id")}
    return [_options(one) for one in value] if isinstance(value, list) else value


def _alone(model: Any, names: Iterable[str]) -> Callable[[str], str]:
    """Each of the names as it were if no model had been made before this one.

    Layers without a name of their own are called by their class and numbered over all models of a process, so that two
    of one architecture have no names in common.
    """
    split = _numbered(model)
    numbered = sorted({one for name in names if (one := split(name))})
    first = {name: k for k, (name, _) in reversed(list(enumerate(numbered)))}
    own = {(name, number): k - first[name] for k, (name, number) in enumerate(numbered)}

    def alone(name: str) -> str:
        one = split(name)
        return name if one is None else one[0] + (f"_{own[one]}" if own[one] else "")

    return alone


def _numbered(model: Any) -> Callable[[str], tuple[str, int] | None]:
    """Takes a name that Keras gave to a layer apart into that of its class and a number."""
    classes = {type(layer).__name__.lower() for layer in model._flatten_layers()} | {"seedgenerator"}

    def split(name: str) -> tuple[str, int] | None:
        found = re.fullmatch(r"(.*?)(?:_(\d+))?", name)
        return (found[1], int(found[2] or 0)) if found and found[1].replace("_", "") in classes else None

    return split
