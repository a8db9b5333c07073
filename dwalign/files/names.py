"""Names of leaves, and trees whose leaves are found by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.files.errors import FileError, few
from dwalign.files.tensors import Weights

PyTree = Any
PREFIXES = ("module.", "_orig_mod.", "model.")  # of torch: DataParallel, compile, an outer module
SUFFIX = ".value"  # of nnx: what a state holds are variables


def names(params: PyTree) -> list[str]:
    """The name of each leaf: its path joined by "/", in the order of `jax.tree.leaves`.

    Raises:
      FileError: two leaves have one name.

    >>> names({"dense": {"kernel": 1, "bias": 2}, "a.weight": 3})
    ['a.weight', 'dense/bias', 'dense/kernel']
    """
    return list(unbind(params))


def unbind(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their names, to be written.

    Raises:
      FileError: two leaves have one name.

    >>> unbind({"dense": {"kernel": 1, "bias": 2}})
    {'dense/bias': 2, 'dense/kernel': 1}
    """
    leaves: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name, text = (jax.tree_util.keystr(path, **style) for style in (dict(simple=True, separator="/"), {}))
        if name in paths:
            raise FileError(f"each array must have a name of its own, but {paths[name]} and {text} are both {name!r}")
        leaves[name], paths[name] = leaf, text
    return leaves


def bind(weights: Weights, params: PyTree) -> PyTree:
    """The tensors of a file in the place of the leaves of `params` that they are named for; nothing is read.

    Names may differ by "." for "/", and by a prefix `module.`, `_orig_mod.` or `model.`, or an ending `.value`, that
    all names of the file, or all of the tree, carry. Of tied tensors the tree may hold one or all.

    Args:
      weights: what `open_weights` gives.
      params: arrays or `jax.ShapeDtypeStruct`s; only their shapes are used.

    Raises:
      FileError: names are missing in the file or in the tree, or shapes differ.
    """
    return bound(weights, params, lambda found, wanted: found == wanted, "have")


def bound(weights: Weights, params: PyTree, fits: Callable[[tuple, tuple], bool], must: str) -> PyTree:
    leaves = unbind(params)
    found = match(weights.path, weights, leaves, "the network", weights.ties)
    tensors = [weights[found[name]] for name in leaves]
    shapes = {name: jnp.shape(leaf) for name, leaf in leaves.items()}
    wrong = [
        f"{found[name]} must {must} shape {shapes[name]}, found {tensor.shape}"
        for name, tensor in zip(leaves, tensors, strict=True)
        if not fits(tensor.shape, shapes[name])
    ]
    if wrong:
        raise FileError(f"{weights.path}: {few(wrong)}; choose the file of this model")
    return jax.tree.unflatten(jax.tree.structure(params), tensors)


def match(
    path: Path, there: Iterable[str], wanted: Iterable[str], whose: str, ties: Mapping[str, str] | None = None
) -> dict[str, str]:
    """For each wanted name the name that is there for it; there must be one for each, and no others.

    Of names that are tied one is enough.

    Raises:
      FileError: the names on both sides are not the same.
    """
    a, b = ({name: name for name in side} for side in (there, wanted))
    if a.keys() != b.keys():
        a, b = _bare(a), _bare(b)
    one = lambda name: (ties or {}).get(name, name)
    matched = {b[key]: a[key] for key in b if key in a}
    tied = {one(name): found for pair in matched.items() for name in pair for found in pair[1:]}
    missing = [name for name in b.values() if one(name) not in tied]
    extra = [name for name in a.values() if one(name) not in tied]
    if missing or extra:
        faults = [f"missing are {few(missing)}"] * bool(missing) + [f"not in {whose} are {few(extra)}"] * bool(extra)
        raise FileError(
            f"{path} must hold the arrays of {whose}, {len(b)} in number, found {len(a)}: {'; '.join(faults)}; "
            "choose the file of this model"
        )
    return {name: matched.get(name, tied[one(name)]) for name in b.values()}


def nest(path: Path, leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries of leaves by the parts of their names.

    Raises:
      FileError: one name goes on where another one ends.
    """
    tree: dict[str, Any] = {}
    inner_of: dict[str, dict[str, Any]] = {"": tree}
    for name, leaf in leaves.items():
        *outer, last = name.split("/")
        inner, so_far = tree, ""
        for part in outer:
            so_far += f"/{part}"
            if so_far not in inner_of:
                if part in inner:
                    raise FileError(f"{path}: {so_far[1:]} cannot be an array and hold {name}; rename one of them")
                inner_of[so_far] = inner[part] = {}
            inner = inner_of[so_far]
        if last in inner:
            raise FileError(f"{path}: {name} cannot be an array and hold others; rename one of them")
        inner[last] = leaf
    return tree


def _bare(side: Iterable[str]) -> dict[str, str]:
    """The names by what is left without kinds of separators and common ends, or as they are if two would be one."""
    full = list(side)
    bare = [name.replace("/", ".") for name in full]
    while prefix := next((p for p in PREFIXES if bare and all(name.startswith(p) for name in bare)), ""):
        bare = [name.removeprefix(prefix) for name in bare]
    if all(name.endswith(SUFFIX) for name in bare):
        bare = [name.removesuffix(SUFFIX) for name in bare]
    return dict(zip(bare if len(set(bare)) == len(full) else full, full, strict=True))
