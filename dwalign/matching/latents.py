"""What methods that descend on a loss move: for every kind of group numbers without bounds, and the soft element.

- permutation: scores, which Sinkhorn makes a soft order;
- sign: scores and a number for the sign of each pair;
- orthogonal: a matrix, of which the orthogonal part counts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.assignment import best_signs, hungarian, polar, signed, soft_assign
from dwalign.matching.objective import standardise, start_perms
from dwalign.matching.scores import place_products, read_pair
from dwalign.symmetry import Alignment, Monomial, PermutationSpec, to_matrices

Latents = dict[str, Any]
PyTree = Any
# a step that turns scores by one turns a map by its n-th root times so much
STIFF = 3.0
# where signs begin: nearly whole, since half a sign shrinks its unit
SURE = 3.0
# of Newton and Schulz; maps are close to orthogonal all the time
ROUNDS = 8
# of singular values; from the root of three on they run away, and just below they take many rounds
CONVERGES = 1.5


class Signed(NamedTuple):
    """Attributes:
    scores: of pairs of units, `[*batch, n, n]`.
    signs: of each pair, `[*batch, n, n, directions]`; their tangent hyperbolic counts.
    """

    scores: jax.Array
    signs: jax.Array


def scores_in(latents: Latents) -> dict[str, jax.Array]:
    """Of all groups; of maps they are what they maximise the score of."""
    return {g: x.scores if isinstance(x, Signed) else x for g, x in latents.items()}


def from_scores(spec: PermutationSpec, scores: dict[str, jax.Array]) -> Latents:
    """Latents of which `harden` is the best element; `scores` as `best_element` takes them."""

    def one(group, q):
        if spec.kinds[group] == "orthogonal":
            return STIFF * spec.sizes[group] ** 0.5 * _contracted(q)
        return Signed(*signed(spec, group, q)) if spec.kinds[group] == "sign" else q

    return {g: one(g, q) for g, q in scores.items()}


def standardised(spec: PermutationSpec, latents: Latents, spread: Any) -> Latents:
    """Latents that are as confident as is wanted: scores of this standard deviation; maps stay as they are."""
    scores = standardise({g: x for g, x in scores_in(latents).items() if spec.kinds[g] != "orthogonal"}, spread)

    def one(group, x):
        if not isinstance(x, Signed):
            return scores.get(group, x)
        factor = spread * jax.lax.rsqrt(jnp.var(x.scores, (-1, -2), keepdims=True) + 1e-12)
        return Signed(scores[group], x.signs * factor[..., None])

    return {g: one(g, x) for g, x in latents.items()}


def begin(spec: PermutationSpec, a: PyTree, b: PyTree, start: Alignment, scores: dict[str, jax.Array]) -> Latents:
    """Latents from the elements of an alignment, and scores that are as confident as is wanted.

    Pairs of units that `start` leaves apart begin with the signs that their weights have in common under it.
    """
    perms = start_perms(spec, start)
    pair = read_pair(spec, a, b)

    def one(group, kind):
        if kind == "orthogonal":
            return STIFF * spec.sizes[group] ** 0.5 * jnp.asarray(perms[group])
        if kind == "sign":
            order, sign = (jnp.asarray(part) for part in (perms[group].perm, perms[group].sign))
            signs = best_signs(spec.characters[group], place_products(spec, pair, perms, group))[1]
            matched = jax.nn.one_hot(order, order.shape[-1], dtype=bool)
            return Signed(scores[group], SURE * jnp.where(matched[..., None], sign[..., None, :], signs))
        return scores[group]

    return {g: one(g, kind) for g, kind in spec.kinds.items()}


def soften(spec: PermutationSpec, latents: Latents, **options: Any) -> dict[str, Any]:
    """The soft elements; `options` are those of `sinkhorn`."""
    orders = {g: x for g, x in scores_in(latents).items() if spec.kinds[g] != "orthogonal"}
    plans = soft_assign(orders, **options)

    def one(group, x):
        if spec.kinds[group] == "orthogonal":
            return _orthogonal(x / (STIFF * spec.sizes[group] ** 0.5))
        return Monomial(plans[group], None, jnp.tanh(x.signs)) if isinstance(x, Signed) else plans[group]

    return {g: one(g, x) for g, x in latents.items()}


def harden(spec: PermutationSpec, latents: Latents) -> dict[str, Any]:
    """The elements that latents are closest to."""
    orders = hungarian({g: x for g, x in scores_in(latents).items() if spec.kinds[g] != "orthogonal"})

    def one(group, x):
        if spec.kinds[group] == "orthogonal":
            return polar(x)
        if not isinstance(x, Signed):
            return orders[group]
        signs = jnp.take_along_axis(x.signs, orders[group][..., None, None], -2)[..., 0, :]
        return Monomial(orders[group], None, jnp.where(signs < 0, -1.0, 1.0))

    return {g: one(g, x) for g, x in latents.items()}


def relaxed(spec: PermutationSpec, elements: dict[str, Any]) -> dict[str, Any]:
    """Elements in the form of soft ones."""
    orders = to_matrices(elements)

    def one(group, element):
        if not isinstance(element, Monomial):
            return orders[group]
        sign = element.sign[..., None, :]
        return Monomial(orders[group], None, jnp.broadcast_to(sign, (*orders[group].shape, sign.shape[-1])))

    return {g: one(g, element) for g, element in elements.items()}


def _orthogonal(matrix: jax.Array) -> jax.Array:
    """The polar factor of what is nearly orthogonal."""
    return _turned(matrix / jnp.maximum(1.0, _stretch(matrix) / CONVERGES))


def _contracted(matrix: jax.Array) -> jax.Array:
    """The polar factor of any matrix; in directions of which it hardly says anything, less than that."""
    return _turned(matrix / _stretch(matrix))


def _stretch(matrix: jax.Array) -> jax.Array:
    """No less than the largest singular value, and not much more; the same in every basis."""
    size = lambda x: jnp.sqrt(jnp.sum(x**2, (-2, -1), keepdims=True) + 1e-30)
    whole = size(matrix)
    gram = jnp.matmul((matrix / whole).swapaxes(-1, -2), matrix / whole)
    return whole * size(jnp.matmul(gram, gram)) ** 0.25


def _turned(matrix: jax.Array) -> jax.Array:
    """By products alone (Newton and Schulz)."""

    def turn(x, _):
        gram = jnp.matmul(x.swapaxes(-1, -2), x)
        return 1.5 * x - 0.5 * jnp.matmul(x, gram), None

    return jax.lax.scan(turn, matrix, length=ROUNDS)[0]
