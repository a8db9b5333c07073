"""`from_model` and `into_model`: which frontend a model belongs to, and the one form that all of them give."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.files import Weights
from dwalign.program import Network, as_examples, network

PyTree = Any

# the package of a class that a model is made from, and its frontend; the first on the way up from the model decides
FRONTENDS = {
    "dwalign.program": "pure",
    "transformers": "transformers",
    "keras": "keras",
    "torch": "torch",
    "flax.linen": "linen",
    "flax.nnx": "nnx",
    "equinox": "equinox",
    "haiku": "haiku",
}


class Opened(NamedTuple):
    """A model as pure functions of its arrays.

    Attributes:
      apply: `(params, *inputs) -> outputs`, in evaluation.
      params: its arrays, or only their shapes and types.
      train: `(params, *inputs) -> (outputs, params)` with renewed batch statistics, None where there are none.
      init: `key -> params`, None where the package cannot.
      statistics: which arrays are statistics, as `dwalign.network` takes it.
    """

    apply: Callable[..., PyTree]
    params: PyTree
    train: Callable[..., tuple[PyTree, PyTree]] | None = None
    init: Callable[[jax.Array], PyTree] | None = None
    statistics: Callable[[str], bool] | None = None


def from_model(
    model: Any,
    *inputs: PyTree,
    params: PyTree = None,
    key: jax.Array | None = None,
    train: Callable[..., tuple[PyTree, PyTree]] | None = None,
    call: Mapping[str, Any] | None = None,
) -> tuple[Network, PyTree]:
    """The network of a model and its parameters. The model itself stays as it is.

    Of a second model of the same kind only the parameters are wanted: `open_model(other).params`.

    | model | params |
    |-|-|
    | torch module | the state dict, `{name: array}`; of tied tensors the first name |
    | Keras model (JAX backend) | `{path: array}` of all variables |
    | Equinox module, or `(module, state)` | `{path: array}`; the module takes one example and is mapped over them |
    | nnx module | the pure dictionary of its state without keys, which the model keeps |
    | linen module | its variables |
    | Haiku transformed function | its params, or `{"params": ..., "state": ...}` |
    | what `dwalign.network` makes of any function | its own; without `params` or `key` their shapes |
    | transformers model | of Flax: its params; of torch: as above |

    Args:
      model: see above.
      inputs: examples `[m, ...]` of any content, or their shapes and types: what the model is called with. A dictionary
        alone is passed by name to models of transformers, and to torch modules that have these names.
      params: in place of those of the model, as its package gives them: linen and Haiku keep them apart (of Haiku
        `(params, state)` as `init` returns them). Shapes and types are enough.
      key: initialises those of linen, Haiku, transformers and of `dwalign.network` where there are none.
      train: `(params, *inputs) -> (outputs, params)` in place of what the frontend knows about batch normalisation:
        it renews the statistics of the package's own layers of that name, and is left out where there are none.
      call: keyword arguments of every call, such as `{"is_training": False}`. By default linen modules that take one of
        `train`, `training`, `is_training`, `deterministic` and the like are told to evaluate; all others need none.

    Raises:
      ValueError: a model of no known package, or parameters are missing.
      ImportError: what the frontend needs is not installed; the message names the extra.
      InferenceError: the model fails on the inputs.

    >>> import flax.linen as nn
    >>> model = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
    >>> net, params = from_model(model, np.ones((2, 3)), key=jax.random.key(0))
    >>> dict(net.spec.sizes), model.apply(into_model(model, params), np.ones((2, 3))).shape
    ({'h0': 4}, (2, 2))
    """
    inputs = as_examples(inputs)
    opened = open_model(model, *inputs, params=params, key=key, call=call)
    made = network(
        opened.apply,
        opened.params,
        *inputs,
        train=train or opened.train,
        init=opened.init,
        statistics=opened.statistics,
    )
    return made, opened.params


def open_model(
    model: Any,
    *inputs: PyTree,
    params: PyTree = None,
    key: jax.Array | None = None,
    call: Mapping[str, Any] | None = None,
) -> Opened:
    """What `from_model` makes a network of, before any symmetry is looked for; inputs only where it needs them."""
    inputs = as_examples(inputs)
    opened = _Free(_frontend(model).open_model)(model, *inputs, params=params, key=key, call=dict(call or {}))
    functions = {name: _Free(known) for name in ("apply", "train", "init") if (known := getattr(opened, name))}
    return opened._replace(**functions)


def check_model(model: Any) -> None:
    """Raise `ValueError` for a model of no known package."""
    _frontend(model)


def shapes_of(model: Any, *inputs: PyTree) -> PyTree:
    """Shapes and types of the parameters, as `params=` of `from_model` takes them, for who has the values elsewhere.

    Nothing is copied or drawn. None where the package gives parameters only with their values; inputs as there.
    """
    known = getattr(_frontend(model), "shapes_of", None)
    return None if known is None else _Free(known)(model, *as_examples(inputs))


def example_inputs(model: Any) -> tuple[Any, ...] | None:
    """Inputs that the model itself declares, as those of Keras do; None where it does not."""
    known = getattr(_frontend(model), "example_inputs", None)
    return None if known is None else known(model)


def names_in_files(model: Any) -> dict[str, str]:
    """For each parameter its name in files of the package, where these have names of their own; else nothing."""
    known = getattr(_frontend(model), "names_in_files", None)
    return {} if known is None else known(model)


def ties(model: Any) -> dict[str, str]:
    """For each name that a state dict gives a tied tensor beside the first, that first, which is the one in params."""
    known = getattr(_frontend(model), "ties", None)
    return {} if known is None else known(model)


def check_layers(model: Any, weights: Weights) -> None:
    """Raise `FileError` where a file of the package tells that layers of the model lie at places of others."""
    known = getattr(_frontend(model), "check_layers", None)
    if known is not None:
        known(model, weights)


def into_model(model: Any, params: PyTree) -> Any:
    """Put parameters back, aligned or merged ones say.

    Returns:
      of torch, Keras and nnx the model itself, which now holds them; of Equinox a new module (or pair); of linen,
      Haiku and Flax models of transformers what these take: the variables, the params or `(params, state)`, the params.

    Raises:
      ValueError: a model of no known package, or parameters that are not those of this model.
    """
    return _frontend(model).into_model(model, params)


def check_shapes(own: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless arrays that go into a model have the shapes of its own, by their names."""
    for name, array in own.items():
        # a model may hold numbers of Python
        if tuple(np.shape(array)) != np.shape(params[name]):
            raise ValueError(f"{name} must have shape {tuple(np.shape(array))}, found {np.shape(params[name])}")


@dataclasses.dataclass(frozen=True)
class _Free:
    """A function under JAX's usual rules, whatever is set around it: other packages rely on broadcasting."""

    function: Callable

    def __call__(self, *args, **kwargs):
        with jax.numpy_rank_promotion("allow"):
            return self.function(*args, **kwargs)


def _frontend(model: Any) -> Any:
    kind = type(model[0] if type(model) is tuple and model else model)
    for base in kind.__mro__:
        for package, name in FRONTENDS.items():
            if f"{base.__module__}.".startswith(f"{package}."):
                return importlib.import_module(f"dwalign.frontends.{name}")
    raise ValueError(
        f"a model must be one of torch, Keras, Equinox, nnx, linen, Haiku or transformers, found "
        f"{kind.__module__}.{kind.__qualname__}; dwalign.network(apply, params, inputs) makes one of any JAX function"
    )
