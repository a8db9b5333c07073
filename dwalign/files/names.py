"""Names of leaves, and trees whose leaves are found by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files.errors import FileError, few
from dwalign.files.tensors import Weights

PyTree = Any
# of torch: DataParallel, compile, an outer module; of linen: the one collection of variables of most modules
PREFIXES = ("module.", "_orig_mod.", "model.", "params.")
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


def bind(weights: Weights, params: PyTree, *, ties: Mapping[str, str] | None = None) -> PyTree:
    """The tensors of a file in the place of the leaves of `params` that they are named for; nothing is read.

    Names may differ by "." for "/", and by a prefix `module.`, `_orig_mod.`, `model.` or `params.`, or an ending
    `.value`, that all names of the file, or all of the tree, carry. Of tied tensors the tree may hold one or all, and
    so may the file; of those that a file holds as copies the numbers are compared.

    Args:
      weights: what `open_weights` gives.
      params: arrays or `jax.ShapeDtypeStruct`s; only their shapes are used.
      ties: names that a file may hold beside those of the tree, or in their place, and the leaf whose tensor each of
        them is; `dwalign.frontends.ties(model)` knows those of a model.

    Raises:
      FileError: names are missing in the file or in the tree, shapes differ, or copies of what is tied.
    """
    bound_ = bound(weights, params, lambda found, wanted: found == wanted, "have", ties)
    if ties:
        _check_copies(weights, places(weights, params, ties=ties))
    return bound_


def places(weights: Weights, params: PyTree, *, ties: Mapping[str, str] | None = None) -> dict[str, str]:
    """For each tensor of a file the name of the leaf that `bind` puts it at; of what is tied, of one leaf.

    >>> from dwalign.files import LazyArray
    >>> one = LazyArray((1,), "f4", lambda: np.ones(1, "f4"))
    >>> tied = Weights(Path("w.safetensors"), "safetensors", {"module.head": one, "module.embed": one})
    >>> places(tied, {"embed": np.ones(1)}, ties={"head": "embed"})
    {'module.head': 'embed', 'module.embed': 'embed'}
    """
    return _match(weights.path, weights, unbind(params), "the network", weights.ties, ties)[1]


def bound(
    weights: Weights,
    params: PyTree,
    fits: Callable[[tuple, tuple], bool],
    must: str,
    ties: Mapping[str, str] | None = None,
) -> PyTree:
    leaves = unbind(params)
    found = match(weights.path, weights, leaves, "the network", weights.ties, ties)
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
    path: Path, there: Iterable[str], wanted: Iterable[str], whose: str, *ties: Mapping[str, str] | None
) -> dict[str, str]:
    """For each wanted name the name that is there for it; there must be one for each, and no others.

    Of names that are tied one is enough. Ties of names on neither side are spelled as those wanted.

    Raises:
      FileError: the names on both sides are not the same.
    """
    return _match(path, there, wanted, whose, *ties)[0]


def _match(
    path: Path, there: Iterable[str], wanted: Iterable[str], whose: str, *ties: Mapping[str, str] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """`match`, and the same the other way round."""
    here, asked = dict.fromkeys(there), dict.fromkeys(wanted)
    pairs = [pair for known in ties for pair in (known or {}).items()]
    more = {name: None for pair in pairs for name in pair if name not in here}
    a, b = ({name: name for name in side} for side in (here, asked | more))
    if here.keys() != asked.keys():
        a, b = _bare(here), _bare(asked | more)
    spelled = {name: key for side in (b, a) for key, name in side.items()}
    one = _classes((spelled[name] for name in pair) for pair in pairs)
    first = lambda side: {one(key): name for key, name in reversed(side.items())}
    b = {key: name for key, name in b.items() if name in asked}
    found, back = first(a), first(b)
    missing = [name for key, name in b.items() if one(key) not in found]
    extra = [name for key, name in a.items() if one(key) not in back]
    if missing or extra:
        faults = [f"missing are {few(missing)}"] * bool(missing) + [f"not in {whose} are {few(extra)}"] * bool(extra)
        raise FileError(
            f"{path} must hold the arrays of {whose}, {len(b)} in number, found {len(a)}: {'; '.join(faults)}; "
            "choose the file of this model"
        )
    from_to = lambda names, known, classes: {name: known.get(key, classes[one(key)]) for key, name in names.items()}
    return from_to(b, a, found), from_to(a, b, back)


def _classes(pairs: Iterable[Iterable[str]]) -> Callable[[str], str]:
    """What stands for all that pairs connect, of any one of them."""
    onward: dict[str, str] = {}

    def one(name: str) -> str:
        while name in onward:
            name = onward[name]
        return name

    for pair in pairs:
        second, first = map(one, pair)
        if second != first:
            onward[second] = first
    return one


def _check_copies(weights: Weights, leaf_of: Mapping[str, str]) -> None:
    """Copies of a tensor that a network has once are of the same numbers; else which of them counts, nobody knows."""
    first: dict[str, str] = {}
    for name, leaf in leaf_of.items():
        other = first.setdefault(leaf, name)
        if name == other or weights.ties.get(name, name) == weights.ties.get(other, other):
            continue
        one, two = np.asarray(weights[other]), np.asarray(weights[name])
        if one.dtype != two.dtype or one.shape != two.shape or one.tobytes() != two.tobytes():
            raise FileError(
                f"{weights.path}: {other} and {name} must be equal, for the network ties them, found other numbers; "
                "choose the file of this model, or untie them in the model"
            )


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
