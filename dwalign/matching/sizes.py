"""Weights far from one, whose products leave the range of floats, and all scores with them.

What reads weights alone gets both networks divided by one power of two, which is exact and changes no alignment. What
runs the program cannot be helped in that way: there nothing may be found in silence.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dwalign.files import put_off
from dwalign.symmetry import Alignment, PermutationSpec, check_finite, is_traced, kind, leaves_by_role, square

PyTree = Any
# products of so many weights of this size, and sums of them, are in the range of float32
NEAR = 32
# float32 has normal numbers of these powers, and of their inverses
MOST = 120
# no network has so many weights
MANY = 2.0**50


def common_power(spec: PermutationSpec, a: PyTree, b: PyTree, *, caller: str = "") -> int:
    """The power of two of the largest weight of both; 0 where that is near one, or nobody knows as they are traced.

    With a `caller`, whom errors name, all numbers are looked at as `check_finite` does.
    """
    read = [leaves_by_role(spec, params) for params in (a, b)]
    of = lambda *roles: [leaves[k] for leaves, numbers in read for role in roles for k in numbers[role]]
    # one product an array tells of most networks that all is finite, and the largest weight near one
    beside = _squares(of("fixed", "statistic")) if caller else 0.0
    if math.isfinite(beside) and MANY * 2.0 ** (-2 * NEAR) < _squares(of("weight")) < 2.0 ** (2 * NEAR):
        return 0
    if caller:
        for name, params in (("a", a), ("b", b)):
            check_finite(caller, spec, params, name)
    found = [leaf for leaf in of("weight") if kind(leaf) != "integer"]
    if is_traced(found):
        return 0
    largest = max(map(_largest, found), default=0.0)
    power = math.frexp(largest)[1] if math.isfinite(largest) else 0
    return 0 if abs(power) <= NEAR else max(-MOST, min(power, MOST))


def divided(spec: PermutationSpec, params: PyTree, power: int) -> PyTree:
    """The weights over 2^power, in their types; all else as it is. What lies in files is divided when it is read."""
    divide = lambda array: np.asarray(array) * np.asarray(2.0**-power, array.dtype)
    leaves, found = spec.treedef.flatten_up_to(params), {id(leaf) for leaf in _floats(spec, params)}
    return spec.treedef.unflatten([put_off(divide, leaf) if id(leaf) in found else leaf for leaf in leaves])


def refuse_vanished(caller: str, power: int, found: Alignment) -> None:
    """Raise `ValueError` where nothing was found in networks of such weights: each score or loss is as any other."""
    flat = lambda array: len(np.unique(np.asarray(array, np.float64))) < 2
    scores = {group: score for group, score in (found.scores or {}).items() if np.shape(score)[-1] > 1}
    if found.history is not None and np.size(found.history) > 1:
        vanished = ["the loss"] * flat(found.history)
    else:
        vanished = [f"the scores of {group}" for group, score in scores.items() if flat(score)]
    if vanished:
        raise ValueError(
            f"{caller}: weights must be of a size at which the program tells units apart, found up to 2^{power}, at "
            f"which {vanished[0]} does not vary; scale the first and last layers, or use a method that reads weights "
            "alone (weight_matching)"
        )


def _squares(leaves: Sequence[Any]) -> float:
    """The sum of the squares of all numbers; NaN where nobody can tell."""
    return sum([math.nan if isinstance(leaf, jax.core.Tracer) else square(np.asarray(leaf)) for leaf in leaves])


def _floats(spec: PermutationSpec, params: PyTree) -> list[Any]:
    """The weights that are no integers."""
    leaves, numbers = leaves_by_role(spec, params)
    return [leaves[k] for k in numbers["weight"] if kind(leaves[k]) != "integer"]


def _largest(leaf: Any) -> float:
    """Its magnitude, without a copy of the array."""
    array = np.asarray(leaf)
    parts = (array.real, array.imag) if np.iscomplexobj(array) else (array,)
    return max(abs(float(end)) for part in parts for end in (part.max(), part.min())) if array.size else 0.0
