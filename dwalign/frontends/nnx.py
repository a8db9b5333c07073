"""Modules of flax.nnx: the state without its random keys is the params; keys and counters stay with the model."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dwalign.frontends.models import Opened, check_shapes

PyTree = Any
KEPT = nnx.Not(nnx.RngState)


def open_model(model: nnx.Module, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    # what a model is set to belongs to its owner
    model = nnx.clone(model)
    model.eval()
    graph, state, keys = nnx.split(model, KEPT, ...)
    params = nnx.to_pure_dict(state) if params is None else params

    def merged(params):
        # a counter of keys must be made where it is counted up, and statistics are written into: not into NumPy's
        return nnx.merge(graph, jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.array, keys))

    def apply(params, *inputs):
        return merged(params)(*inputs, **call)

    def train(params, *inputs):
        module = merged(params)
        # statistics of these inputs alone
        module.set_attributes(nnx.BatchNorm, use_running_average=False, momentum=0.0)
        outputs = module(*inputs, **call)
        return outputs, nnx.to_pure_dict(nnx.state(module, KEPT))

    norms = any(isinstance(module, nnx.BatchNorm) for _, module in nnx.iter_modules(model))
    return Opened(apply, params, train if norms else None)


def into_model(model: nnx.Module, params: PyTree) -> nnx.Module:
    """The model itself, its state replaced; keys and counters stay."""
    state = nnx.state(model, KEPT)
    own = nnx.to_pure_dict(state)
    if jax.tree.structure(own) != jax.tree.structure(params):
        raise ValueError("params must be the pure dictionary of this module's state, as from_model returns it")
    # nnx takes arrays of any shape
    check_shapes(*map(_by_path, (own, params)))
    nnx.replace_by_pure_dict(state, params)
    nnx.update(model, state)
    return model


def _by_path(params: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
