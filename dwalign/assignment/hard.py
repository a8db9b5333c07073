"""Hard assignment: the permutation of largest total score."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from dwalign.assignment.augment import augmenting_paths
from dwalign.assignment.host import host_primitive, in_threads
from dwalign.symmetry import as_arrays, count_values, is_traced, with_lists

PyTree = Any
# smaller problems are solved before their means and minima are known
WORTH_REDUCING = 64
# so many numbers of small problems are prepared together
PIECE = 2**16


def hungarian(scores: PyTree) -> PyTree:
    """The permutation p that maximises sum_i scores[i, p[i]], for batches of square matrices.

    Args:
      scores: `[..., n, n]`, or any tree of such arrays (lists of numbers are some); must be finite. Gradients do not
        flow through the result.

    Returns:
      `[..., n]` int32 for each array; among equally good permutations always the same one. Arrays are solved where
      they are called, NumPy's give NumPy's. Compiled for a CPU, with vmap too, a whole batch of whole trees is one call
      of scipy's solver, in threads where problems are large; compiled for an accelerator nothing leaves it
      (`augmenting_paths`), and of equally good permutations it may be another one.

    Raises:
      ValueError: scores that are not square, or not finite (inside a program compiled for a CPU when it runs; an
        accelerator answers -1 everywhere, see `refuse_unsolved`).

    >>> hungarian(np.array([[10.0, 9.0], [9.0, 0.0]])).tolist()
    [1, 0]
    """
    # most calls on the host are of one small matrix, and reading a tree takes as long as solving it
    leaves, treedef = ([scores], None) if isinstance(scores, np.ndarray) else jax.tree.flatten(as_arrays(scores))
    for matrix in leaves:
        shape = np.shape(matrix)
        if len(shape) < 2 or shape[-1] != shape[-2]:
            raise ValueError(f"hungarian: scores must be square matrices [..., n, n], found shape {shape}")
    if treedef is None:
        return _assign(scores) if scores.ndim == 2 else _solve(scores)[0]
    if is_traced(leaves):
        perms = _inside_a_program(*jax.lax.stop_gradient(leaves))
    else:
        solved = zip(leaves, _solve(*map(np.asarray, leaves)), strict=True)
        perms = [perm if isinstance(leaf, np.ndarray) else jax.device_put(perm) for leaf, perm in solved]
    return treedef.unflatten(perms)


@with_lists
def refuse_unsolved(perms: PyTree) -> None:
    """Raise for permutations of scores that were not finite, which programs on accelerators cannot.

    Raises:
      ValueError: an index is negative.
    """
    arrays = [leaf for leaf in jax.tree.leaves(perms) if jnp.issubdtype(leaf.dtype, jnp.integer)]
    if bad := sum(bool((np.asarray(array) < 0).any()) for array in arrays):
        raise ValueError(f"hungarian: scores must be finite, found NaN or infinite values for {bad} of the groups")


@contextlib.contextmanager
def plain_refusal() -> Iterator[None]:
    """What `hungarian` raises inside a compiled program, which JAX wraps into a traceback of its own, as it was said.

    Raises:
      ValueError: scores that are not finite.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if "callback" in str(error) and (said := re.search(r"hungarian: .*", str(error))):
            raise ValueError(said.group()) from None
        raise


def _on_the_device(*scores: jax.Array) -> list[jax.Array]:
    """Problems of one size in one loop."""
    perms: dict[int, jax.Array] = {}
    for n in {matrix.shape[-1] for matrix in scores}:
        same = [k for k, matrix in enumerate(scores) if matrix.shape[-1] == n]
        flat = [scores[k].reshape(-1, n, n) for k in same]
        cuts = np.cumsum([len(batch) for batch in flat])[:-1].tolist()
        solved = jnp.split(augmenting_paths(jnp.concatenate(flat)), cuts)
        perms |= {k: perm.reshape(scores[k].shape[:-1]) for k, perm in zip(same, solved, strict=True)}
    return [perms[k] for k in range(len(scores))]


def _batched(bind, scores: Sequence[jax.Array], axes: Sequence[int | None]) -> tuple[list[jax.Array], list[int | None]]:
    """All problems of a batch at once, as for the batches that the arrays have of their own."""
    in_front = [q if axis is None else jnp.moveaxis(q, axis, 0) for q, axis in zip(scores, axes, strict=True)]
    return bind(*in_front), [None if axis is None else 0 for axis in axes]


def _solve(*scores: np.ndarray) -> list[np.ndarray]:
    """The permutations of arrays on the host, `[..., n, n]` to `[..., n]` each."""
    pieces, places = [], []
    perms = [np.empty(array.shape[:-1], np.int32) for array in scores]
    for array, perm in zip(scores, perms, strict=True):
        n = array.shape[-1]
        some, matrices, rows = max(PIECE // max(n * n, 1), 1), array.reshape(-1, n, n), perm.reshape(-1, n)
        for k in range(0, len(matrices), some):
            pieces.append(matrices[k : k + some])
            places.append(rows[k : k + some])
    for place, solved in zip(places, in_threads(_assign, pieces, _work(pieces)), strict=True):
        place[...] = solved
    return perms


def _work(pieces: Sequence[np.ndarray]) -> int:
    """See `in_threads`."""
    return sum(len(matrices) * matrices.shape[-1] ** 3 for matrices in pieces)


def _assign(scores: np.ndarray) -> np.ndarray:
    """The permutations of one matrix, or of some `[m, n, n]`."""
    # told to maximise, scipy would copy each matrix twice
    costs = np.negative(scores, dtype=np.float64)
    if bad := count_values(costs, lambda x: ~np.isfinite(x)):
        raise ValueError(f"hungarian: scores must be finite, found {bad} NaN or infinite values")
    if (n := costs.shape[-1]) >= WORTH_REDUCING:
        # the same permutation is best without what rows or columns have in common: it is found many times sooner where
        # all want the same few partners, and sooner with a cost of 0 in every row and column
        shares = np.full(n, 1 / n)
        costs -= (shares @ costs)[..., None, :]
        costs -= (costs @ shares)[..., None]
        costs -= np.minimum.reduce(costs, -1, keepdims=True)
        costs -= np.minimum.reduce(costs, -2, keepdims=True)
    if costs.ndim == 2:
        return linear_sum_assignment(costs)[1].astype(np.int32)
    return np.array([linear_sum_assignment(matrix)[1] for matrix in costs], np.int32).reshape(costs.shape[:-1])


_inside_a_program = host_primitive(
    "hungarian",
    lambda *scores: [jax.ShapeDtypeStruct(q.shape[:-1], jnp.int32) for q in scores],
    _solve,
    _on_the_device,
    _batched,
)
