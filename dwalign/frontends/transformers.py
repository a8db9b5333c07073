"""Models of Hugging Face transformers: those of Flax, which 4.57 was the last to have, and those of torch."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dwalign.extras import load
from dwalign.frontends import torch as torch_modules
from dwalign.frontends.linen import renew, with_statistics
from dwalign.frontends.models import Opened

PyTree = Any


def open_model(model: Any, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    if not is_flax(model):
        # a cache of keys and values is no output
        quiet = {"use_cache": False} if hasattr(model.config, "use_cache") else {}
        taken = inspect.signature(model.forward).parameters
        call = {name: value for name, value in quiet.items() if name in taken} | call
        return torch_modules.open_model(model, *inputs, params=params, key=key, call=call, around=_compiling)

    init = lambda key: model.init_weights(key, model.input_shape)
    if params is None:
        initialised = getattr(model, "_is_initialized", True)
        params = model.params if initialised else init(key) if key is not None else model.params_shape_tree
    # a few models have no such argument, and never train where they are called
    switch = "train" in inspect.signature(model.__call__).parameters
    off = {"train": False} if switch else {}

    def run(params, inputs, **options):
        args, kwargs = ((), inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], dict) else (inputs, {})
        with older_names():
            return model(*args, **kwargs, params=params, **off | call | options)

    def apply(params, *inputs):
        return _arrays(run(params, inputs))

    def train(params, *inputs):
        # the models of transformers that normalise by batches drop nothing
        with nn.intercept_methods(renew):
            outputs, updated = run(params, inputs, train=True)
        return _arrays(outputs), with_statistics(params, updated)

    return Opened(apply, params, train if switch and "batch_stats" in params else None, init)


def into_model(model: Any, params: PyTree) -> Any:
    """Of Flax, what the model takes as `params`; of torch, the model itself, which now holds them."""
    return params if is_flax(model) else torch_modules.into_model(model, params)


def names_in_files(model: Any) -> dict[str, str]:
    """The names that files have kept where transformers 5 calls parameters otherwise, of a ViT say; all of them.

    What it stores in other arrays than it holds, experts say, keeps the name that it holds it under.
    """
    if is_flax(model):
        return {}
    own = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    kept = dict(own)
    # those of transformers 4 have one name
    with contextlib.suppress(ImportError):
        from transformers.core_model_loading import revert_weight_conversion

        kept = revert_weight_conversion(model, own)
    names = {id(tensor): name for name, tensor in kept.items()}
    return {name: names.get(id(tensor), name) for name, tensor in own.items()}


def ties(model: Any) -> dict[str, str]:
    """As those of torch; Flax has each array once."""
    return {} if is_flax(model) else torch_modules.ties(model)


def is_flax(model: Any) -> bool:
    return any(base.__name__ == "FlaxPreTrainedModel" for base in type(model).__mro__)


def _arrays(outputs: Any) -> PyTree:
    """The arrays of an output record, one alone as itself."""
    found = [leaf for leaf in jax.tree.leaves(outputs.to_tuple()) if leaf is not None]
    return found[0] if len(found) == 1 else found


def _compiling() -> contextlib.AbstractContextManager:
    """Models of torch look at masks and tokens, which a trace has no numbers of, unless they are being compiled."""
    return _replaced(load("torch").compiler, "is_compiling", lambda: True)


def older_names() -> contextlib.AbstractContextManager:
    """Models of Flax, also while they are made, call `jnp.clip` with names of arguments that jax has changed since."""
    clip = jnp.clip

    def renamed(x, min=None, max=None, *, a_min=None, a_max=None):
        return clip(x, a_min if min is None else min, a_max if max is None else max)

    return _replaced(jnp, "clip", renamed)


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Another value there, for as long as a model is traced."""
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)
