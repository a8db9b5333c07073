"""Trees as JSON values: of dictionaries, lists and tuples as these, of any container that JAX knows by its type."""

import sys
from collections.abc import Callable
from typing import Any

import jax
from jax.tree_util import PyTreeDef, default_registry

from dwalign.symmetry.axes import SpecError

PyTree = Any


def encode_tree(tree: PyTree, leaf: Callable[[Any], str]) -> Any:
    """The tree as JSON values, its leaves as texts.

    >>> encode_tree({"w": 1, "layers": [2]}, str)
    {'dict': {'w': '1', 'layers': {'list': ['2']}}}

    Raises `SpecError` where a container keeps what JSON has no values for, such as the functions of an nnx module.
    """
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return {"dict": {key: encode_tree(value, leaf) for key, value in tree.items()}}
    if type(tree) in (list, tuple):
        return {type(tree).__name__: [encode_tree(value, leaf) for value in tree]}
    if tree is None:
        return None
    children, outer = jax.tree.flatten(tree, is_leaf=lambda node: node is not tree)
    if (node := outer.node_data()) is None:
        return leaf(tree)
    kind, about = node
    name = f"{kind.__module__}:{kind.__qualname__}"
    return {"node": name, "about": _plain(about, name), "children": [encode_tree(child, leaf) for child in children]}


def decode_tree(data: Any, leaf: Callable[[str], Any]) -> PyTree:
    """The inverse of `encode_tree`; nothing is imported and no code of a file runs.

    Raises `SpecError` on what it did not write, or where the module of a container is not imported yet.
    """
    if data is None:
        return None
    if isinstance(data, str):
        return leaf(data)
    inner = lambda values: [decode_tree(value, leaf) for value in values]
    match data:
        case {"dict": dict(values), **rest} if not rest:
            return {key: decode_tree(value, leaf) for key, value in values.items()}
        case {"list": list(values), **rest} if not rest:
            return inner(values)
        case {"tuple": list(values), **rest} if not rest:
            return tuple(inner(values))
        case {"node": str(name), "about": about, "children": list(values)}:
            return _container(name, _from_plain(about), inner(values))
    raise SpecError(
        "spec: a tree in the JSON text must be the text of an Axes or {'dict': {...}}, {'list': [...]}, "
        f"{{'tuple': [...]}} or {{'node': ...}}, found {str(data)[:80]}"
    )


def _container(name: str, about: Any, children: list[PyTree]) -> PyTree:
    module, _, qualified = name.partition(":")
    kind: Any = sys.modules.get(module)
    if kind is None:
        raise SpecError(f"spec: the JSON text holds a {name}; import {module} before it is read")
    for part in qualified.split("."):
        kind = getattr(kind, part, None)
    leaves = [jax.tree.structure(0)] * len(children)
    try:
        structure = PyTreeDef.from_node_data_and_children(default_registry, (kind, about), leaves)
        return jax.tree.unflatten(structure, children)
    except Exception as error:  # whatever the container raises on what it was not made for
        raise SpecError(
            f"spec: {name} in the JSON text must be a container that JAX knows, of {len(children)} parts; reading it "
            f"failed with {type(error).__name__}: {error}"
        ) from error


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if type(value) in (tuple, list):
        return {type(value).__name__: [_plain(part, name) for part in value]}
    if type(value) is dict:
        return {"dict": [[_plain(key, name), _plain(part, name)] for key, part in value.items()]}
    raise SpecError(
        f"spec: cannot write {name} as JSON, for it keeps a {type(value).__name__}; take the state of it, a tree of "
        "arrays alone (nnx.split(model)[1], say)"
    )


def _from_plain(data: Any) -> Any:
    match data:
        case {"tuple": list(values)}:
            return tuple(map(_from_plain, values))
        case {"list": list(values)}:
            return list(map(_from_plain, values))
        case {"dict": list(pairs)}:
            return {_from_plain(key): _from_plain(value) for key, value in pairs}
    return data
