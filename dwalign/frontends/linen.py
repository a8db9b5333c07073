"""Modules of flax.linen: their variables are the params."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax

from dwalign.frontends.models import Opened
from dwalign.kept import anew

PyTree = Any
# what modules call the switch between training and evaluation, and its value in evaluation
EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "eval": True,
    "inference": True,
    "use_running_average": True,
}


def open_model(model: nn.Module, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    call = _evaluating(model) | call
    init = Initialised(model, inputs, call)
    if params is None:
        if key is None:
            raise ValueError(
                f"a linen module keeps no variables, and {type(model).__name__} came without; pass params= (its "
                "variables) or key= to initialise them"
            )
        params = init(key)
    train = Called(_train, model, call) if "batch_stats" in params else None
    return Opened(Called(_apply, model, call), params, train, init)


@dataclasses.dataclass(frozen=True, eq=False)
class Called:
    """A function `(params, *inputs)` of a module; of equal modules they are equal, and what was compiled is found."""

    function: Callable
    model: nn.Module
    call: Mapping[str, Any]

    def __call__(self, params: PyTree, *inputs: PyTree) -> PyTree:
        return self.function(self.model, self.call, params, *inputs)

    def __eq__(self, other):
        told = lambda one: (one.function, one.model, one.call)
        # arrays that modules have among their attributes are compared with themselves alone
        with contextlib.suppress(ValueError):
            return isinstance(other, Called) and told(self) == told(other)
        return False

    def __hash__(self):
        # attributes may be lists
        return hash((self.function, type(self.model)))


@dataclasses.dataclass(frozen=True, eq=False)
class Initialised:
    """`key -> variables` in one program, where a module draws its parameters one by one."""

    model: nn.Module
    inputs: tuple[PyTree, ...]
    call: Mapping[str, Any]

    @functools.cached_property
    def program(self) -> Callable:
        # of its parts alone, which go when it goes: no cycle
        model, inputs, call = self.model, self.inputs, self.call
        return jax.jit(lambda key: model.init(key, *inputs, **call))

    def __call__(self, key: jax.Array) -> PyTree:
        return self.program(key)

    def __reduce__(self):
        return anew(self)


def _apply(model: nn.Module, call: Mapping[str, Any], params: PyTree, *inputs: PyTree) -> PyTree:
    return model.apply(params, *inputs, **call)


def _train(model: nn.Module, call: Mapping[str, Any], params: PyTree, *inputs: PyTree) -> tuple[PyTree, PyTree]:
    with nn.intercept_methods(renew):
        outputs, updated = model.apply(params, *inputs, **call, mutable=["batch_stats"])
    return outputs, with_statistics(params, updated)


def shapes_of(model: nn.Module, *inputs: PyTree) -> PyTree:
    """The variables that the module makes for these inputs, without their values; nothing is drawn."""
    return jax.eval_shape(lambda key: model.init(key, *inputs, **_evaluating(model)), jax.random.key(0))


def into_model(model: nn.Module, params: PyTree) -> PyTree:
    """The variables, as `model.apply` takes them."""
    return params


def _evaluating(model: nn.Module) -> dict[str, bool]:
    taken = inspect.signature(model.__call__).parameters
    return {name: value for name, value in EVALUATION.items() if name in taken}


def with_statistics(params: PyTree, updated: PyTree) -> PyTree:
    """Variables with these in place of theirs, in the kind of mapping that they are."""
    return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves({**params, **updated}))


def renew(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Intercepts batch normalisation: as in training, and its statistics become those of its inputs alone."""
    module = context.module
    if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
        return call(*args, **kwargs)
    # linen takes the switch from the module or from the call, not from both
    renewing = {"use_running_average": None, "momentum": 0.0}
    own = {name: getattr(module, name) for name in renewing}
    _set(module, renewing)
    try:
        return call(args[0], **{**kwargs, "use_running_average": False})
    finally:
        _set(module, own)


def _set(module: nn.Module, values: dict[str, Any]) -> None:
    # a module is frozen for everybody else
    for name, value in values.items():
        object.__setattr__(module, name, value)
