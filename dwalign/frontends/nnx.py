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
    own = nnx.to_pure_dict(state)
    params = own if params is None else _placed(own, params)

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
    params = _placed(own, params)
    # nnx takes arrays of any shape
    check_shapes(*map(_by_path, (own, params)))
    nnx.replace_by_pure_dict(state, params)
    nnx.update(model, state)
    return model


def _placed(own: PyTree, params: PyTree) -> PyTree:
    """Params in the structure of the module's own, by name: `nnx.merge` goes by place alone.

    Files make texts of the numbers of layers, of which "10" comes before "2".
    """
    arrays = _by_path(nnx.to_pure_dict(params) if isinstance(params, nnx.State) else params)
    names = _by_path(own)
    if names.keys() != arrays.keys():
        raise ValueError(f"params must hold the arrays {sorted(names)} of this module, found {sorted(arrays)}")
    return jax.tree.unflatten(jax.tree.structure(own), [arrays[name] for name in names])


def _by_path(params: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
