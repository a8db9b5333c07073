"""What a weight is: the role of every array, and the numbers that arithmetic on arrays is done with.

Roles of a leaf:

- "weight": a number that carries a group. Weights vote in matching, are features, are averaged and count in distances.
- "fixed": a real or complex array that carries no group, such as an output bias. It has no say in a matching, for every
  permutation leaves it where it is; it is averaged and counts in distances.
- "statistic": what training computes from data (`spec.statistics`). It moves with its units and is averaged, until it
  is renewed; it neither votes nor counts.
- "carried": masks, random keys, and integers without a group, such as counters and tables. Nothing is computed with
  them: they move with their units, and of two networks those of the first are kept.

Integers that carry a group are quantised weights, so they vote as the numbers they are.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.files import read_leaf
from dwalign.symmetry.axes import namespace
from dwalign.symmetry.dtypes import dtype_of, kind_of
from dwalign.symmetry.finite import count_values
from dwalign.symmetry.powers import Power
from dwalign.symmetry.spec import Block, PermutationSpec

PyTree = Any
Role = Literal["weight", "fixed", "statistic", "carried"]
"""Of an array: whether it votes in a matching, moves, or only is carried through."""


def leaf_roles(spec: PermutationSpec, params: PyTree) -> tuple[Role, ...]:
    """The role of every leaf, in the order of `spec.paths`; arrays or `jax.ShapeDtypeStruct`.

    >>> from dwalign.symmetry import Axes, PermutationSpec
    >>> spec = PermutationSpec({"w": Axes("h"), "running_mean": Axes("h"), "step": Axes()}, {"h": 3})
    >>> dict(zip(spec.paths, leaf_roles(spec, {"w": np.ones(3), "running_mean": np.ones(3), "step": np.int32(7)})))
    {"['running_mean']": 'statistic', "['step']": 'carried', "['w']": 'weight'}
    """
    return _roles(spec, tuple(map(dtype_of, spec.treedef.flatten_up_to(params))))


def leaves_by_role(spec: PermutationSpec, params: PyTree) -> tuple[list[Any], Mapping[Role, tuple[int, ...]]]:
    """The leaves of parameters that fit the spec, and the numbers of those of each role."""
    leaves = jax.tree.leaves(params)
    return leaves, _numbers_by_role(spec, tuple(map(dtype_of, leaves)))


@functools.lru_cache(4096)
def _numbers_by_role(spec: PermutationSpec, dtypes: tuple[Any, ...]) -> Mapping[Role, tuple[int, ...]]:
    roles = _roles(spec, dtypes)
    return {role: tuple(k for k, own in enumerate(roles) if own == role) for role in get_args(Role)}


@functools.lru_cache(4096)
def _roles(spec: PermutationSpec, dtypes: tuple[Any, ...]) -> tuple[Role, ...]:
    return tuple(_role(spec, *leaf) for leaf in zip(spec.paths, spec.carriers, dtypes, strict=True))


def _role(spec: PermutationSpec, path: str, carries: bool, dtype: Any) -> Role:
    known = (found := kind_of(dtype)) in ("float", "complex")
    if path in spec.statistics:
        return "statistic" if known else "carried"
    if carries and (known or found == "integer"):
        return "weight"
    return "fixed" if known else "carried"


def voting_blocks(spec: PermutationSpec, params: PyTree, *, xp: Any = None) -> list[Block]:
    """The blocks that vote, as they are stored: of weights, those parts that carry a group.

    `xp` is `numpy` for blocks on the host.
    """
    leaves, numbers = leaves_by_role(spec, params)
    blocks = (block for number in numbers["weight"] for block in spec.leaf_blocks(number, leaves[number], xp))
    return [block for block in blocks if not spec.sizes.keys().isdisjoint(block.factors)]


def weight_blocks(spec: PermutationSpec, params: PyTree) -> list[Block]:
    """`voting_blocks` as `numbers`."""
    return [widen(block) for block in voting_blocks(spec, params)]


def widen(block: Block) -> Block:
    """A block as `numbers`.

    A complex block has one more fixed axis, so that all products of blocks are the real parts of the complex ones.
    """
    array = real(block.array)
    if array is block.array:
        return block
    more = array.ndim - block.array.ndim
    powers = block.powers + (Power(),) * more if block.powers else ()
    return block._replace(factors=block.factors + (None,) * more, array=array, powers=powers)


def check_finite(caller: str, spec: PermutationSpec, params: PyTree, name: str) -> None:
    """Raise `ValueError` for the first array of NaN or infinite weights, `name` and its path; traced ones are left out.

    A mask of minus infinity is no weight.
    """
    wrong = {"weight": lambda x: ~np.isfinite(x), "fixed": np.isnan, "statistic": np.isnan}
    for path, role, leaf in zip(spec.paths, leaf_roles(spec, params), jax.tree.leaves(params), strict=True):
        if role == "carried" or isinstance(leaf, jax.core.Tracer):
            continue
        if bad := count_values(np.asarray(leaf), wrong[role]):
            raise ValueError(
                f"{caller}: all weights must be finite, but {name}{path} holds {bad} NaN or infinite values; did its "
                "training diverge?"
            )


def numbers(leaf: Any, xp=jnp) -> Any:
    """An array as real numbers of at least 32 bits, which arithmetic is done with whatever the storage is.

    A complex array becomes a real one with real and imaginary parts along a last axis. `xp` is `numpy` for results on
    the host.
    """
    array = xp.asarray(leaf)
    if xp.iscomplexobj(array):
        array = xp.stack([array.real, array.imag], -1)
    return array.astype(wide(array.dtype), copy=False)


@functools.cache
def wide(dtype: Any) -> Any:
    """The type in which arithmetic on arrays of this type is done; JAX itself promotes no 8-bit floats, say."""
    return dtype if dtype in (np.float64, np.complex64, np.complex128) else np.dtype(np.float32)


def real(array: Any) -> Any:
    """`numbers` where the array lies, which is the array itself where it holds such."""
    array = read_leaf(array)
    return array if array.dtype == np.float32 else numbers(array, namespace(array))


def store(array: Any, like: Any, xp=jnp) -> Any:
    """`numbers` in the type of `like` again; integers are rounded to the nearest, and to the ends of their range."""
    dtype = xp.asarray(like).dtype
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = array[..., 0], array[..., 1]
        array = jax.lax.complex(*parts) if xp is jnp else parts[0] + 1j * parts[1]
    if jnp.issubdtype(dtype, jnp.integer):
        array = xp.clip(xp.round(array), jnp.iinfo(dtype).min, jnp.iinfo(dtype).max)
    return array.astype(dtype)
