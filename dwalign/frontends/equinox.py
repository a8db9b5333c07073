"""Modules of Equinox, which take one example: a flat dictionary of their arrays, mapped over the examples."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.extras import load
from dwalign.frontends.models import Opened, check_shapes

PyTree = Any


def open_model(model: Any, *inputs: PyTree, params: PyTree, key: Any, call: dict[str, Any]) -> Opened:
    eqx = load("equinox")
    stateful = type(model) is tuple
    names, treedef, static = _names(model)

    def whole(params, *, training=False):
        module, state = eqx.combine(treedef.unflatten(params[name] for name in names), static), None
        if stateful:
            module, state = module
        module = eqx.nn.inference_mode(module)
        if training:
            switch = lambda node: eqx.nn.inference_mode(node, False) if _is_norm(node) else node
            module = jax.tree.map(switch, module, is_leaf=_is_norm)
        return module, state

    norms = _norms(whole(names)[0]) if stateful else []
    axes = {norm.axis_name for norm in norms}
    if len(axes) > 1:
        raise ValueError(f"all BatchNorm layers of a module must have one axis_name, found {sorted(map(str, axes))}")
    mapping = {"axis_name": next(iter(axes))} if axes else {}

    def run(module, state, inputs):
        if not stateful:
            return jax.vmap(lambda *one: module(*one, **_keyed(module), **call))(*inputs), None
        one = lambda *one: module(*one, state, **_keyed(module), **call)
        return jax.vmap(one, out_axes=(0, None), **mapping)(*inputs)

    def apply(params, *inputs):
        return run(*whole(params), inputs)[0]

    def train(params, *inputs):
        module, state = whole(params, training=True)
        # a state is spent once another is made of it
        outputs, new = run(module, _begun(module, whole(params)[1]), inputs)
        renewed = eqx.filter((module, _renewed(module, state, new)), eqx.is_array)
        return outputs, dict(zip(names, jax.tree.leaves(renewed), strict=True))

    # all arrays of the state, the second of a pair; as a path of a dictionary
    is_state = (lambda path: path.startswith("['1.")) if stateful else None
    return Opened(apply, names if params is None else params, train if norms else None, statistics=is_state)


def into_model(model: Any, params: PyTree) -> Any:
    """A new module with these arrays, or a new pair `(module, state)`; all else is as in `model`."""
    eqx = load("equinox")
    names, treedef, static = _names(model)
    if names.keys() != params.keys():
        raise ValueError(f"params must hold the arrays {sorted(names)} of this module, found {sorted(params)}")
    check_shapes(names, params)
    return eqx.combine(treedef.unflatten(params[name] for name in names), static)


def _names(model: Any) -> tuple[dict[str, Any], Any, Any]:
    """Each array under its path, in order, the structure that holds them, and what is no array."""
    eqx = load("equinox")
    arrays, static = eqx.partition(model, eqx.is_array)
    leaves, treedef = jax.tree_util.tree_flatten_with_path(arrays)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}, treedef, static


def _is_norm(node: Any) -> bool:
    return isinstance(node, load("equinox").nn.BatchNorm)


def _norms(module: Any) -> list[Any]:
    return [node for node in jax.tree.leaves(module, is_leaf=_is_norm) if _is_norm(node)]


def _keyed(module: Any) -> dict[str, Any]:
    """A key for those that insist on one; nothing is drawn in evaluation."""
    key = inspect.signature(module).parameters.get("key")
    return {"key": None} if key is not None and key.default is key.empty else {}


def _begun(module: Any, state: Any) -> Any:
    """The state with averages that begin anew."""
    for norm in _norms(module):
        if norm.mode == "ema":
            state = state.set(norm.ema_first_time_index, jnp.array(True))
        else:
            hidden = state.get(norm.batch_state_index)
            state = state.set(norm.batch_state_index, jax.tree.map(jnp.zeros_like, hidden))
    return state


def _renewed(module: Any, state: Any, new: Any) -> Any:
    """The state with the averages of one batch, as its counters, which stay, make them read."""
    for norm in _norms(module):
        if norm.mode == "ema":
            state = state.set(norm.ema_state_index, new.get(norm.ema_state_index))
        else:
            counter = state.get(norm.batch_counter)
            seen = jnp.where(counter == 0, 1, 1 - norm.momentum**counter)
            scaled = lambda hidden, seen=seen, norm=norm: hidden * (seen / (1 - norm.momentum))
            state = state.set(norm.batch_state_index, jax.tree.map(scaled, new.get(norm.batch_state_index)))
    return state
