"""Elements of the symmetry group of one set of units: an order, an order with factors, or a map.

- an order: integers `[*batch, n]`, for a group of any kind; soft, a doubly stochastic matrix `[*batch, n, n]`;
- an order with factors: a `Monomial`, for the kinds "sign", "scale" and "monomial";
- a map: a matrix `[*batch, n, n]`, for "orthogonal" and "linear".

Convention: `aligned[i] = factor[i] ** power * b[perm[i]]`, `aligned = M @ b`.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.symmetry.axes import contract, namespace
from dwalign.symmetry.dtypes import is_traced, kind
from dwalign.symmetry.powers import Power
from dwalign.symmetry.weights import wide

INDEX = np.int32  # of every permutation that is made here, also where 64-bit types are on
MAPS = ("orthogonal", "linear")
# of numbers for each index of a batch, from which on a call for each is sooner done
WORTH_A_CALL = 256


class Monomial(NamedTuple):
    """An order of units and what each of them is multiplied with.

    Attributes:
      perm: integers `[*batch, n]`, or soft `[*batch, n, n]`.
      scale: positive factors, `[*batch, n, directions]`; of a soft one for each pair, `[*batch, n, n, directions]`.
        None where all are 1.
      sign: 1 and -1, likewise.
    """

    perm: jax.Array
    scale: jax.Array | None = None
    sign: jax.Array | None = None


Element = jax.Array | Monomial


def is_hard(element: Any) -> bool:
    """Whether indices stand for an order; with factors or without."""
    return kind(order_of(element)) == "integer"


def order_of(element: Any) -> Any:
    """The element without its factors."""
    return element.perm if isinstance(element, Monomial) else element


def factors_at(element: Monomial, power: Power) -> Any:
    """What units are multiplied with at a place of this power, `[*batch, n]`; None where nothing is."""
    out = None
    if element.scale is not None and any(power.scale):
        xp = namespace(element.scale)
        powers = xp.asarray([float(number) for number in power.scale], element.scale.dtype)
        # whole powers of one direction are exact
        out = element.scale[..., 0] ** powers[0] if len(powers) == 1 else xp.exp(xp.log(element.scale) @ powers)
    if element.sign is not None and any(power.sign):
        chosen = [k for k, odd in enumerate(power.sign) if odd]
        sign = element.sign[..., chosen].prod(-1)
        out = sign if out is None else out * sign
    return out


def act(array: Any, axis: int, batch_axes: tuple[int, ...], element: Any, kind_: str, power: Power) -> Any:
    """Let an element act along one axis of an array; `batch_axes` are those that it is batched over."""
    if isinstance(array, np.ndarray) and isinstance(element, np.ndarray) and element.dtype.kind == "i":
        # what most calls on the host are; all that is asked below takes longer than the move
        return _taken(np, array, axis, batch_axes, element)
    parts = element if isinstance(element, Monomial) else (element,)
    if isinstance(array, np.ndarray) and not is_traced(parts):
        # on its way through JAX a double would lose half of its bits
        element = jax.tree.map(np.asarray, element) if len(parts) > 1 else np.asarray(element)
    factors = factors_at(element, power) if isinstance(element, Monomial) else None
    order = order_of(element)
    xp = namespace(array, order)
    order = xp.asarray(order)
    soft = kind(order) != "integer"
    if soft and kind(array) in ("bool", "a random key"):
        # no average of them is one of them
        order, factors, soft = xp.argmax(order, -1), None, False
    if not soft:
        moved = _taken(xp, array, axis, batch_axes, order)
        return moved if factors is None else _times(xp, moved, axis, batch_axes, factors)
    if kind_ == "linear" and power.scale == (-1,):
        order = xp.linalg.inv(order).swapaxes(-1, -2)
    matrix = order if factors is None else order * factors
    letters, new = list(range(array.ndim)), array.ndim
    out = [new if k == axis else k for k in letters]
    array = xp.asarray(array)
    mixed = contract(matrix, [*batch_axes, new, axis], array.astype(wide(array.dtype), copy=False), letters, out)
    return mixed.astype(array.dtype) if kind_ in MAPS and kind(array) in ("float", "complex") else mixed


def _taken(xp, array, axis, batch_axes, perm):
    if not batch_axes:
        return array.take(perm, axis) if xp is np else xp.take(array, perm, axis=axis)
    batch = tuple(array.shape[k] for k in batch_axes)
    if xp is np and perm.shape[:-1] == batch and array.size >= WORTH_A_CALL * math.prod(batch):
        return _taken_one_by_one(array, axis, batch_axes, perm)
    return xp.take_along_axis(array, spread(xp, perm, array.ndim, (*batch_axes, axis)), axis=axis)


def _taken_one_by_one(array: np.ndarray, axis: int, batch_axes: tuple[int, ...], perm: np.ndarray) -> np.ndarray:
    """What NumPy takes along an axis for each index of the batch; all at once it looks up every number by itself."""
    taken = np.empty_like(array)
    front = (*batch_axes, *(k for k in range(array.ndim) if k not in batch_axes))
    source, target, rest = array.transpose(front), taken.transpose(front), front.index(axis) - len(batch_axes)
    for index in itertools.product(*map(range, perm.shape[:-1])):
        target[index] = source[index].take(perm[index], rest)
    return taken


def spread(xp, values, ndim: int, axes: tuple[int, ...]):
    """Values `[*batch, n]` along these axes of an array."""
    return xp.moveaxis(values.reshape(values.shape + (1,) * (ndim - values.ndim)), range(values.ndim), axes)


def _times(xp, array, axis, batch_axes, factors):
    factors = spread(xp, xp.asarray(factors), array.ndim, (*batch_axes, axis))
    product = array.astype(wide(array.dtype), copy=False) * factors
    return product.astype(array.dtype) if kind(array) in ("float", "complex") else product


def inverted(element: Any, kind_: str) -> Any:
    """The element that undoes this one."""
    if isinstance(element, Monomial):
        back = _moved_back(element)
        return back if back.scale is None else back._replace(scale=1 / back.scale)
    xp = namespace(element)
    if kind(element) == "integer":
        return xp.argsort(element, axis=-1).astype(INDEX)
    return xp.linalg.inv(element) if kind_ == "linear" else element.swapaxes(-1, -2)


def adjoint(element: Any) -> Any:
    """The transposed of what acts at power 1."""
    if isinstance(element, Monomial):
        if is_hard(element):
            return _moved_back(element)
        turned = lambda x: None if x is None else x.swapaxes(-2, -3)
        return Monomial(element.perm.swapaxes(-1, -2), turned(element.scale), turned(element.sign))
    return element.argsort(-1) if is_hard(element) else element.swapaxes(-1, -2)


def _moved_back(element: Monomial) -> Monomial:
    """The order is undone, and factors go with their units."""
    back = inverted(element.perm, "permutation")
    taken = lambda x: None if x is None else namespace(x, back).take_along_axis(x, back[..., None], -2)
    return Monomial(back, taken(element.scale), taken(element.sign))


def composed(outer: Any, inner: Any) -> Any:
    """The element that acts as `inner` first."""
    if isinstance(outer, Monomial) or isinstance(inner, Monomial):
        one, two = (e if isinstance(e, Monomial) else Monomial(e) for e in (outer, inner))
        perm = composed(one.perm, two.perm)
        taken = lambda x: None if x is None else namespace(x, one.perm).take_along_axis(x, one.perm[..., None], -2)
        product = lambda x, y: y if x is None else x if y is None else x * y
        return Monomial(perm, product(one.scale, taken(two.scale)), product(one.sign, taken(two.sign)))
    xp = namespace(outer, inner)
    outer, inner = xp.asarray(outer), xp.asarray(inner)
    if is_hard(outer) and is_hard(inner):
        return xp.take_along_axis(inner, outer, axis=-1).astype(INDEX)
    one, two = (_matrix(xp, e) for e in (outer, inner))
    return one @ two if xp is np else jnp.matmul(one, two, precision="highest")


def _matrix(xp, element):
    return xp.eye(element.shape[-1], dtype=np.float32)[element] if is_hard(element) else element


def drawn(perm: Any, kind_: str, directions: tuple[int, int], normal: Any) -> Any:
    """An element made of an order and of standard normal numbers, `normal(shape)`: scales are log-normal, maps Haar."""
    if kind_ == "permutation":
        return perm
    xp = namespace(perm)
    if kind_ in MAPS:
        matrix = _orthogonal(xp, normal((*perm.shape, perm.shape[-1])))
        if kind_ == "linear":
            # well conditioned
            stretch = xp.exp(0.3 * normal(perm.shape))
            matrix = (matrix * stretch[..., None, :]) @ _orthogonal(xp, normal((*perm.shape, perm.shape[-1])))
        return matrix
    scales, signs = directions
    scale = xp.exp(0.5 * normal((*perm.shape, scales))) if scales else None
    sign = xp.where(normal((*perm.shape, signs)) < 0, -1.0, 1.0).astype(np.float32) if signs else None
    return Monomial(perm, scale, sign)


def _orthogonal(xp, matrix):
    q, r = xp.linalg.qr(matrix)
    # of the uniform distribution
    diagonal = xp.diagonal(r, axis1=-2, axis2=-1)
    return q * xp.where(diagonal < 0, -1.0, 1.0)[..., None, :].astype(matrix.dtype)
