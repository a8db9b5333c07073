"""Many networks of one architecture, stacked along a leading axis of every array."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files import read_leaf
from dwalign.symmetry.dtypes import dtype_of, is_traced
from dwalign.symmetry.narrowed import like
from dwalign.symmetry.powers import Power
from dwalign.symmetry.spec import Block, PermutationSpec
from dwalign.symmetry.weights import wide

PyTree = Any


def stack_networks(networks: Sequence[PyTree]) -> PyTree:
    """The networks as one stacked tree, in arrays of JAX; of several types of an array the one that holds them all.

    >>> stack_networks([{"w": jnp.ones(2)}, {"w": jnp.zeros(2)}])["w"].tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """

    def stack(*leaves):
        leaves = tuple(map(read_leaf, leaves))
        if len({dtype_of(leaf) for leaf in leaves}) > 1:
            # JAX does not know it of 8-bit floats, say
            leaves = tuple(jnp.asarray(leaf, wide(dtype_of(leaf))) for leaf in leaves)
        return jnp.stack(leaves)

    return jax.tree.map(stack, *networks)


def key_of_pair(key: jax.Array, a: Any, b: Any) -> jax.Array:
    """The random key of the pair of these two numbers of networks, whichever other pairs there are.

    >>> one, same, back = (key_of_pair(jax.random.key(0), *pair) for pair in ((1, 2), (1, 2), (2, 1)))
    >>> bool(one == same), bool(one == back)
    (True, False)
    """
    return jax.random.fold_in(jax.random.fold_in(key, a), b)


def count_networks(stacked: PyTree) -> int:
    """The number of networks in a stacked tree.

    Raises:
      ValueError: it is none, since its arrays hold unequally many along their first axis.
    """
    shapes = {path: np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(stacked)}
    counts = {shape[:1] for shape in shapes.values()}
    if len(counts) != 1 or () in counts:
        found = ", ".join(f"{jax.tree_util.keystr(path)} {shape}" for path, shape in list(shapes.items())[:4])
        raise ValueError(
            f"networks must be stacked, as many along the first axis of every array, found {found or 'no array'}; "
            "stack_networks([a, b]) does it, of trees of arrays"
        )
    return counts.pop()[0]


def take_networks(stacked: PyTree, index: Any) -> PyTree:
    """The networks with these indices; an integer gives one network; a slice, a list or an array a stack.

    Raises:
      IndexError: there is no such network (of a traced index the last one is taken).
      ValueError: the tree is not stacked.

    >>> import numpy as np
    >>> stacked = {"w": np.array([[1, 2], [3, 4], [5, 6]])}
    >>> count_networks(stacked), take_networks(stacked, 1)["w"].tolist(), take_networks(stacked, [0, 2])["w"].tolist()
    (3, [3, 4], [[1, 2], [5, 6]])
    """
    count = count_networks(stacked)
    leaves, treedef = jax.tree.flatten(stacked)
    if is_traced((leaves, index)) or not _on_one_device(leaves):
        return treedef.unflatten([take_rows(leaf, index) for leaf in leaves])
    # one by one each shape would have a program of its own
    return treedef.unflatten(_taken(leaves, np.arange(count)[index]))


def _on_one_device(arrays: list[Any]) -> bool:
    """A program takes no arrays that lie on different devices."""
    return all(isinstance(x, jax.Array) for x in arrays) and len(set().union(*(x.devices() for x in arrays))) == 1


@jax.jit
def _taken(arrays: list[jax.Array], rows: jax.Array) -> list[jax.Array]:
    return [array[rows] for array in arrays]


def take_rows(array: Any, index: Any) -> Any:
    """`array[index]` along its first axis, by NumPy's rules where the index is known; one of NumPy stays there."""
    if isinstance(index, jax.core.Tracer):
        return jnp.asarray(array)[index]
    # JAX takes no lists, and the last row for one that is not there; a slice is a view
    return array[index if isinstance(index, slice) else np.arange(len(array))[index]]


@functools.lru_cache(256)
def stacked_spec(spec: PermutationSpec) -> PermutationSpec:
    """The spec of stacked networks, in each of which units are exchanged by themselves.

    However many there are: their axis is written with a size of 1, and what depends on no network has that.

    >>> from dwalign.symmetry import Axes
    >>> stacked_spec(PermutationSpec({"w": Axes(None, "h0")}, {"h0": 3}))
    PermutationSpec(sizes={'h0': 3}
      ['w']: network, _, h0)
    """
    name = _name_of_stack(spec)
    batch = {g: (name, *spec.batch.get(g, ())) for g in spec.sizes}
    return like(
        spec, [axes.stacked(name) for axes in spec.written], batch=batch, fixed={**spec.fixed, name: 1}, reading={}
    )


def stacked_block(spec: PermutationSpec, block: Block) -> Block:
    """A block of networks whose array is stacked, as one of `stacked_spec`."""
    powers = (Power(), *block.powers) if block.powers else ()
    return block._replace(factors=(_name_of_stack(spec), *block.factors), powers=powers)


def _name_of_stack(spec: PermutationSpec) -> str:
    """One that the spec has not."""
    return next(name for k in itertools.count() if (name := "network" + "'" * k) not in {*spec.sizes, *spec.fixed})
