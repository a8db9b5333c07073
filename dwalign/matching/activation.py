"""Activation matching: units that respond alike are the same unit.

Of units that may be flipped those are the same that respond alike or the opposite way, and of a space that may be
rotated the map is taken that brings all responses closest (Procrustes).
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.assignment import best_element, hungarian
from dwalign.bounds import Count
from dwalign.encoders.parity import flipping
from dwalign.matching.method import method
from dwalign.program import Data, Network, Units, count_examples, loops, take_examples
from dwalign.symmetry import Alignment, Monomial, PermutationSpec, SpecError, inverse, permute, permute_batch

PyTree = Any


def _responses(network, params, *, key, data) -> dict[str, jax.Array]:
    found = _units(network.spec, list(network.spec.sizes), network.capture, params, data.inputs)
    # [m, positions, batch, n] -> [*batch, n, m positions]
    rows = {g: jnp.moveaxis(u, (2, 3), (0, 1)) / math.sqrt(u.shape[0]) for g, u in found.items()}
    return {g: u.reshape(*network.spec.batch_shape(g), u.shape[1], -1) for g, u in rows.items()}


def _standard_responses(network, params, *, key, data) -> dict[str, jax.Array]:
    """Of mean 0 and length 1, constant ones of length 0."""
    found = _responses(network, params, key=key, data=data)
    apart = {g: u - u.mean(-1, keepdims=True) for g, u in found.items()}
    # as the 1e-8 beside the variances of `_correlation`
    least = {g: 1e-8 * u.shape[-1] / count_examples(data.inputs) for g, u in found.items()}
    return {g: u * jax.lax.rsqrt((u**2).sum(-1, keepdims=True) + least[g]) for g, u in apart.items()}


@method("activation matching", "#56b4e9", needs="inputs", features=_responses)
def activation_matching(
    network: Network, a: PyTree, b: PyTree, *, data: Data, key: jax.Array | None = None, chunk: Count = 1000
) -> Alignment:
    """Match units by the inner products of their activations (Git Re-Basin, Ainsworth et al. 2023).

    Args:
      network, a, b: what is matched; axes between examples and units (positions in an image, say) count as more
        examples.
      data: inputs `[m, ...]`; the whole training set in the paper.
      key: not used; all methods share one signature.
      chunk: inputs that are pushed through the networks at once.

    Returns:
      `scores[group][i, j]`: the inner product of unit i of a and unit j of b.
    """
    return _match(network, a, b, data.inputs, False, chunk)


@method("activation matching (correlations)", "#009e73", needs="inputs", features=_standard_responses)
def activation_matching_correlation(
    network: Network, a: PyTree, b: PyTree, *, data: Data, key: jax.Array | None = None, chunk: Count = 1000
) -> Alignment:
    """Match units by the Pearson correlations of their activations (Li et al. 2016).

    As `activation_matching`; units that are constant on the data have correlation 0. In a space that may be rotated all
    units share one scale.
    """
    return _match(network, a, b, data.inputs, True, chunk)


def correlations(
    network: Network, a: PyTree, b: PyTree, inputs: PyTree, *, chunk: Count = 1000
) -> dict[str, jax.Array]:
    """For each group the Pearson correlations `[*batch, n, n]` of the units of a and of b, which is aligned to a."""
    return _compare(network.spec.with_kinds(), list(network.spec.sizes), a, b, network.capture, inputs, True, chunk)


def _match(network, a, b, inputs, correlation, chunk) -> Alignment:
    spec = network.spec
    first = take_examples(inputs, slice(1))

    def respond(params):
        post = network.capture(params, first)[1].post
        return [{g: x.reshape(-1, *spec.batch_shape(g), spec.sizes[g]) for g, x in post.items()}]

    odd = next(iter(flipping(spec, b, respond)), {})
    perms: dict[str, Any] = {}
    scores: dict[str, jax.Array] = {}
    for level in _turns(spec):
        moved = permute(spec, b, perms) if perms else b
        found = _compare(spec, level, a, moved, network.capture, inputs, correlation, chunk)
        # found between partners, in the order of a; scores and permutations are indexed by the units of b
        back = inverse(spec, perms)
        found = {g: permute_batch(spec, g, found[g], back) for g in level}
        perms |= hungarian({g: q for g, q in found.items() if spec.kinds[g] == "permutation"})
        perms |= {g: _element(spec, g, found[g], odd) for g in level if g not in perms}
        scores |= {g: abs(q) if g in odd else q for g, q in found.items()}
    return Alignment({g: perms[g] for g in spec.sizes}, {g: scores[g] for g in spec.sizes})


def _turns(spec: PermutationSpec) -> list[list[str]]:
    """The groups in the order in which they are found.

    What is batched over others comes after them, and bases come after orders: query heads are places at which the
    values of their head are seen.
    """
    is_order = lambda g: spec.kinds[g] == "permutation"
    parts = [[g for g in level if is_order(g) is first] for level in spec.levels for first in (True, False)]
    return [part for part in parts if part]


def _element(spec: PermutationSpec, group: str, scores: jax.Array, odd: dict[str, jax.Array]) -> Any:
    """That of units that may be flipped, or rotated."""
    if group not in odd:
        return best_element(spec, group, scores)
    # where no direction flips a response the sign of a score is no matter of the unit
    perm = hungarian(jnp.where(odd[group].any(), abs(scores), scores))
    signs = jnp.where(jnp.take_along_axis(scores, perm[..., None], -1) < 0, -1.0, 1.0)
    # one direction that flips the response is enough
    first = (odd[group] & (jnp.cumsum(odd[group]) == 1)).astype(signs.dtype)
    return Monomial(perm, None, jnp.sign(signs * first.reshape((1,) * perm.ndim + (-1,)) + 0.5))


def _compare(spec, groups, a, b, capture, inputs, correlation, chunk) -> dict[str, jax.Array]:
    """Scores of the units of these groups, `[*batch, n, n]`."""
    count: Any = count_examples(inputs)
    chunk = min(chunk, count)
    chunks = jnp.arange(count + -count % chunk).reshape(-1, chunk)

    units = functools.partial(_units, spec, groups, capture)
    first = tuple(units(params, take_examples(inputs, slice(1))) for params in (a, b))
    # sums of deviations from the first response lose no digits where responses are large and vary little
    center = jax.tree.map(lambda u: u[:1, :1] if correlation else jnp.zeros_like(u[:1, :1]), first)

    def moments(sums, index):
        mask = (index < count)[:, None, None, None]
        x = take_examples(inputs, jnp.minimum(index, count - 1))
        deviate = lambda u, c: jnp.where(mask, u - c, 0.0)
        us, vs = (jax.tree.map(deviate, units(p, x), c) for p, c in zip((a, b), center, strict=True))
        return jax.tree.map(jnp.add, sums, {g: _sums(us[g], vs[g]) for g in groups}), None

    zeros = jax.tree.map(lambda u, v: jax.tree.map(jnp.zeros_like, _sums(u, v)), *first)
    sums = loops.scan(moments, zeros, chunks)[0]
    scores = {}
    for g in groups:
        total, together = float(count) * first[0][g].shape[1], spec.kinds[g] == "orthogonal"
        q = _correlation(sums[g], total, together) if correlation else sums[g][0] / count
        scores[g] = q.reshape(*spec.batch_shape(g), *q.shape[-2:])
    return scores


def _units(spec, groups, capture, params, x) -> dict[str, jax.Array]:
    """The responses `[m, positions, batch, n]` of the units of these groups."""
    found = capture(params, x)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Units)):
        raise ValueError(
            "activation_matching: capture must give (outputs, Units), found "
            f"{type(found).__name__}; a network whose capture is not given reads it off apply"
        )
    return {g: _by_group(spec, g, found[1].post) for g in groups}


def _by_group(spec, group, post) -> jax.Array:
    shape = (*spec.batch_shape(group), spec.sizes[group])
    if group not in post or post[group].shape[-len(shape) :] != shape:
        found = f"shape {post[group].shape}" if group in post else f"only {sorted(post)}"
        raise SpecError(
            f"activation_matching: capture must give for group {group!r} activations [m, ..., {str(shape)[1:-1]}], "
            f"found {found}"
        )
    units = post[group].astype(jnp.promote_types(post[group].dtype, jnp.float32))
    return units.reshape(units.shape[0], -1, math.prod(shape[:-1]), shape[-1])


def _sums(u, v):
    product = jnp.einsum("mpki,mpkj->kij", u, v, precision="highest")
    return product, u.sum((0, 1)), v.sum((0, 1)), (u**2).sum((0, 1)), (v**2).sum((0, 1))


def _correlation(sums, count, together):
    """`together` says that all units have one scale."""
    product, sum_a, sum_b, square_a, square_b = sums
    covariance = product / count - sum_a[:, :, None] * sum_b[:, None, :] / count**2

    def scale(total, square):
        variance = jnp.maximum(square / count - (total / count) ** 2, 0.0)
        shared = jnp.broadcast_to(variance.mean(-1, keepdims=True), variance.shape)
        # of responses that are small as a whole no unit is constant for that
        least = 1e-8 * jnp.minimum(variance.max(-1, keepdims=True), 1.0) + 1e-37
        return jax.lax.rsqrt((shared if together else variance) + least)

    return covariance * scale(sum_a, square_a)[:, :, None] * scale(sum_b, square_b)[:, None, :]
