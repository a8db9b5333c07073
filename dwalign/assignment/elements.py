"""Scores to elements of every kind: the order, the order with signs, or the orthogonal map of largest total score."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dwalign.assignment.hard import hungarian
from dwalign.symmetry import Monomial, PermutationSpec, count_values, identity, is_hard, namespace, with_lists

MATCHED = ("permutation", "sign", "orthogonal")
"""The kinds that are matched; the others are one of these once a gauge has been chosen (`symmetry.gauge`)."""
# so many directions of signs start at both of them
TRIED = 3


@with_lists
def polar(scores: Any) -> Any:
    """The orthogonal matrices M that maximise sum(scores * M), `[..., n, n]` (Schoenemann 1966).

    Raises:
      ValueError: NaN or infinite scores, unless they are traced or lie in arrays of JAX, of which M is NaN then.

    >>> polar(np.array([[0.0, 2.0], [-1.0, 0.0]])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    left, _, right = namespace(scores).linalg.svd(_finite("polar", scores), full_matrices=False)
    return left @ right if namespace(scores) is np else jnp.matmul(left, right, precision="highest")


def _finite(caller: str, scores: Any) -> Any:
    """The same, for NumPy, which says no more of others than that it found no singular values."""
    if isinstance(scores, np.ndarray) and (bad := count_values(scores, lambda x: ~np.isfinite(x))):
        raise ValueError(f"{caller}: scores must be finite, found {bad} NaN or infinite values")
    return scores


def best_element(spec: PermutationSpec, group: str, scores: Any) -> Any:
    """The element of a group that maximises its score.

    Args:
      spec, group: of one of the kinds `MATCHED`.
      scores: `[*batch, n, n]`; of kind "sign" one for each of `spec.characters[group]`, `[characters, *batch, n, n]`.
    """
    kind = spec.kinds[group]
    if kind == "orthogonal":
        return polar(scores)
    if kind == "permutation":
        return hungarian(scores)
    total, signs = best_signs(spec.characters[group], scores)
    perm = hungarian(total)
    xp = namespace(total)
    return Monomial(perm, None, xp.take_along_axis(signs, perm[..., None, None], -2)[..., 0, :])


def best_score(spec: PermutationSpec, group: str, scores: Any) -> Any:
    """The total score of the best element, `[*batch]`; of a map without the map, which takes several times longer."""
    if spec.kinds[group] == "orthogonal":
        return namespace(scores).linalg.svd(_finite("best_score", scores), compute_uv=False).sum(-1)
    return score_of(spec, group, scores, best_element(spec, group, scores))


def settled(spec: PermutationSpec, group: str, scores: Any) -> Any:
    """Scores `[*batch, n, n]` of pairs of units, each pair with its best signs."""
    return best_signs(spec.characters[group], scores)[0] if spec.kinds[group] == "sign" else scores


def signed(spec: PermutationSpec, group: str, scores: Any) -> tuple[Any, Any]:
    """Of a group with signs `settled`, and of each pair by how much its signs are better than their opposites.

    The second is `[*batch, n, n, directions]`, positive where the sign is.
    """
    characters = spec.characters[group]
    total, signs = best_signs(characters, scores)
    parts = [
        functools.reduce(lambda x, k: x * signs[..., k], np.flatnonzero(odd), s)
        for odd, s in zip(characters, scores, strict=True)
    ]
    margins = [sum(part for odd, part in zip(characters, parts, strict=True) if odd[k]) for k in range(signs.shape[-1])]
    return total, signs * abs(namespace(total).stack(margins, -1))


def score_of(spec: PermutationSpec, group: str, scores: Any, element: Any) -> Any:
    """The total score of an element, `[*batch]`."""
    if spec.kinds[group] == "orthogonal":
        return (scores * element).sum((-1, -2))
    if spec.kinds[group] == "permutation":
        return _picked(scores, element).sum(-1)
    sign = lambda odd: element.sign[..., [k for k, one in enumerate(odd) if one]].prod(-1)
    characters = zip(spec.characters[group], scores, strict=True)
    return sum((_picked(matrix, element.perm) * sign(odd)).sum(-1) for odd, matrix in characters)


def as_elements(spec: PermutationSpec, perms: Mapping[str, Any]) -> dict[str, Any]:
    """Orders as elements of the form that `best_element` gives."""

    def one(group, perm):
        if spec.kinds[group] == "permutation" or isinstance(perm, Monomial) or not is_hard(perm):
            return perm
        xp = namespace(perm)
        if spec.kinds[group] == "sign":
            return Monomial(perm, None, xp.ones((*perm.shape, spec.directions[group][1]), np.float32))
        return xp.eye(perm.shape[-1], dtype=np.float32)[perm]

    return {group: one(group, perm) for group, perm in perms.items()}


def projected(spec: PermutationSpec, perms: Mapping[str, Any]) -> dict[str, Any]:
    """The nearest elements of the kinds of a spec to those of larger ones: without scales, of maps the polar factor."""

    def one(group, element):
        kind = spec.kinds[group]
        if isinstance(element, Monomial):
            return element._replace(scale=None) if kind == "sign" else element.perm
        return polar(element) if kind == "orthogonal" and not is_hard(element) else element

    return as_elements(spec, {group: one(group, element) for group, element in perms.items()})


def neutral(spec: PermutationSpec) -> dict[str, Any]:
    """The element that changes nothing, of the form that `best_element` gives."""
    return as_elements(spec, identity(spec))


def _picked(scores, perm):
    if scores.shape[:-1] != perm.shape:
        scores = namespace(scores, perm).broadcast_to(scores, (*perm.shape, scores.shape[-1]))
    rows = namespace(scores, perm).asarray(scores).reshape(-1, scores.shape[-1])
    return rows[np.arange(len(rows)), perm.reshape(-1)].reshape(perm.shape)


def best_signs(characters: Sequence[tuple[int, ...]], scores: Any) -> tuple[Any, Any]:
    """The largest sum of scores over signs of every pair, and the signs `[*batch, n, n, directions]`.

    Direction by direction, the last one first, from all signs that others may start with: exact for a few directions,
    an ascent for more.
    """
    xp, count = namespace(scores), len(characters[0])
    product = lambda matrix, factors: functools.reduce(lambda x, y: x * y, factors, matrix)

    def ascend(start):
        signs = [xp.full_like(scores[0], sign) for sign in start]
        others = lambda odd, skip: [signs[m] for m in range(count) if odd[m] and m != skip]
        for k in [*reversed(range(count))] * min(count, 2):
            slope = sum(product(s, others(odd, k)) for odd, s in zip(characters, scores, strict=True) if odd[k])
            signs[k] = xp.where(slope < 0, -1.0, 1.0).astype(scores.dtype)
        return sum(product(s, others(odd, None)) for odd, s in zip(characters, scores, strict=True)), signs

    some = min(count - 1, TRIED)
    starts = ((*start, *[1.0] * (count - some)) for start in itertools.product((1.0, -1.0), repeat=some))
    total, signs = ascend(next(starts))
    for start in starts:
        other, flipped = ascend(start)
        signs = [xp.where(other > total, x, y) for x, y in zip(flipped, signs, strict=True)]
        total = xp.maximum(total, other)
    return total, xp.stack(signs, -1)
