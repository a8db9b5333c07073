"""The numbers of a gauge: factors that make sums of squares smallest, factors of a product alike in both, signs."""

from typing import Any

import numpy as np

from dwalign.symmetry.axes import namespace

# singular values below this share of the largest may be the rounding of weights in single precision
NOISE = 1e-6


def newton_step(squares: Any, powers: np.ndarray) -> Any:
    """A step to the `t` that makes `sum_k squares[k] exp(2 powers[k] . t)` smallest, from 0.

    Newton's, so damped that a convex function of this form falls wherever it starts (Sun & Tran-Dinh 2019, generalized
    self-concordant functions with nu = 2).

    Args:
      squares: `[*many, k]`, not negative.
      powers: `[k, directions]`.

    Returns:
      `[*many, directions]`; 0 along what changes nothing.

    >>> t = newton_step(np.array([1.0, 1.0201]), np.array([[1.0], [-1.0]]))
    >>> float(np.exp(2 * t[0]).round(3))
    1.01
    """
    xp = namespace(squares)
    powers = powers.astype(squares.dtype)
    directions = powers.shape[1]
    pairs = (powers[:, :, None] * powers[:, None, :]).reshape(-1, directions * directions)
    gradient = squares @ powers
    hessian = 2 * (squares @ pairs).reshape(*gradient.shape, directions)
    # sums differ by orders of magnitude from direction to direction
    diagonal = xp.diagonal(hessian, axis1=-2, axis2=-1)
    size = xp.where(diagonal > 0, diagonal, 1) ** -0.5
    # directions that only act together leave one of them open
    ridge = xp.eye(directions, dtype=squares.dtype) * (directions * np.finfo(squares.dtype).eps)
    hessian = hessian * (size[..., :, None] * size[..., None, :]) + xp.broadcast_to(ridge, hessian.shape)
    step = -size * xp.linalg.solve(hessian, (size * gradient)[..., None])[..., 0]
    far = 2 * abs(step @ powers.T).max(-1, keepdims=True)
    return step * xp.where(far > 0, xp.log1p(far) / xp.where(far > 0, far, 1), 1)


def alike(x: Any, y: Any) -> Any:
    """The map M with `M x x' M'` and `M^-T y y' M^-1` equal and diagonal, falling.

    Both are the singular values of `x' y`, which M leaves as it is, so that `M x` and `M^-T y` are its singular
    vectors times the roots of these. Of their two signs that is taken of which the sum of all cubes is positive, which
    does not depend on the order of columns. Where the product has no full rank the rest is only rotated.

    Args:
      x, y: `[*batch, n, m]`, each with an m of its own.
    """
    xp = namespace(x, y)
    n = x.shape[-2]
    turned = lambda a: a.swapaxes(-1, -2)
    triangle = lambda a: xp.linalg.qr(turned(_at_least(xp, a, n)))[1]
    rx, ry = triangle(x), triangle(y)
    left, values, right = xp.linalg.svd(rx @ turned(ry))
    real = values > NOISE * values[..., :1]
    root = xp.where(real, values, 1) ** -0.5
    rows = root[..., None] * (right @ ry)
    # the inverse: columns of the product that has full rank, and what is orthogonal to them
    columns = (turned(rx) @ left) * xp.where(real, root, 0)[..., None, :]
    cubes = _cubes(rows @ x) + _cubes(turned(columns) @ y)
    sign = xp.where(real & (cubes < 0), -1, 1).astype(values.dtype)[..., None]
    if xp is np and real.all():
        return rows * sign
    rest = turned(xp.linalg.svd(columns)[0])
    return xp.where(real[..., None], rows, rest) * sign


def _cubes(array: Any) -> Any:
    # a power of doubles takes twenty times longer than products
    return (array * array * array).sum(-1)


def _at_least(xp, array, columns: int):
    """With columns of zeros where it has fewer."""
    missing = columns - array.shape[-1]
    zeros = xp.zeros((*array.shape[:-1], max(0, missing)), array.dtype)
    return xp.concatenate([array, zeros], -1)


def positive(map_: Any) -> Any:
    """The positive definite one of all maps that differ from this by an orthogonal map behind it."""
    _, values, right = namespace(map_).linalg.svd(map_)
    return (right.swapaxes(-1, -2) * values[..., None, :]) @ right


def solve_signs(powers: np.ndarray, negative: Any, sure: Any) -> Any:
    """The signs that make numbers positive, as 0 and 1; 0 where nothing determines them.

    Elimination modulo 2.

    Args:
      powers: `[k, directions]`, 0 or 1: which signs each number changes with.
      negative: `[k, ...]`, whether a number is negative.
      sure: `[k]`, whether it is to be made positive.

    Returns:
      `[..., directions]` integers.

    >>> solve_signs(np.array([[1, 1], [1, 1], [0, 1]]), np.array([True, False, True]), np.array([True, False, True]))
    array([0, 1])
    """
    xp = namespace(negative, sure)
    rows = xp.concatenate([powers, negative.reshape(len(powers), -1)], 1).astype(np.int32) * sure[:, None]
    used = xp.zeros(len(powers), bool)
    pivots = []
    for d in range(powers.shape[1]):
        can = (rows[:, d] == 1) & ~used
        chosen = (xp.arange(len(powers)) == xp.argmax(can)) & can
        pivot = (rows * chosen[:, None]).sum(0)
        rows = (rows + (rows[:, d] * ~chosen)[:, None] * pivot[None]) % 2
        used = used | chosen
        pivots.append(chosen)
    # a direction without a pivot is 0, so that those of the others are what stands beside them
    found = [(rows * chosen[:, None]).sum(0)[powers.shape[1] :] for chosen in pivots]
    return xp.stack(found, -1).reshape(*negative.shape[1:], powers.shape[1])


def left_free(powers: np.ndarray) -> np.ndarray:
    """The signs that leave all of these numbers as they are, as a basis modulo 2, `[left, directions]`.

    Each direction of the basis has a 1 where all others have 0, the first of which is the earliest.

    Args:
      powers: `[k, directions]`, 0 or 1.

    >>> left_free(np.array([[0, 1, 1], [0, 1, 1]])).tolist()
    [[1, 0, 0], [0, 1, 1]]
    """
    rows = np.asarray(powers, np.int32)
    basis = np.eye(rows.shape[1], dtype=np.int32)
    for row in rows:
        odd = np.flatnonzero(basis @ row % 2)
        # the last of those that change it undoes what the others do
        for k in odd[:-1]:
            basis[k] = (basis[k] + basis[odd[-1]]) % 2
        basis = np.delete(basis, odd[-1:], 0)
    return basis
