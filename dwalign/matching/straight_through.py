"""The straight-through estimator of Git Re-Basin (Ainsworth et al. 2023, section 3.3)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.matching.objective import read_task, start_perms
from dwalign.matching.options import check_options
from dwalign.matching.weight import weight_matching
from dwalign.program import count_examples, take_examples
from dwalign.symmetry import Alignment, PermutationSpec, interpolate, leaf_roles, permute, wide

PyTree = Any


def straight_through(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    apply: Callable,
    batch: tuple[jax.Array, jax.Array],
    start: Alignment | None = None,
    iterations: int = 200,
    learning_rate: float = 1e-3,
    images: int = 256,
    loss: Callable | None = None,
) -> Alignment:
    """Learn free weights w, started at a, whose best weight matching P of b makes a good midpoint with a.

    Each step matches b to w (from the last permutation), takes the gradient of L((a + P.b) / 2) as that of w, and moves
    w by Adam. Quantised weights have no slope and stay those of a. The permutation with the lowest midpoint loss on
    `images` fixed images is returned.

    Args:
      spec, a, b: what is matched.
      key: draws images and the order of the groups.
      apply: `(params, inputs) -> outputs`.
      batch: inputs and labels of the training set, trees of `[m, ...]`.
      start: where the first matching starts; the identity by default.
      iterations, learning_rate, images: of the optimisation.
      loss: `(outputs, labels) -> scalar`; mean softmax cross-entropy by default.
    """
    check_options(
        "straight_through",
        apply=apply,
        start=start,
        iterations=iterations,
        learning_rate=learning_rate,
        images=images,
        loss=loss,
    )
    spec.check_pair(a, b)
    task, data = read_task("straight_through", apply, a, batch, loss)
    optimiser = optax.adam(learning_rate)
    count = count_examples(data)
    fixed_key, loop_key = jax.random.split(key)

    def draw(key):
        index = jax.random.randint(key, (min(images, count),), 0, count)
        return take_examples(data, index)

    def midpoint(moved, data):
        return task(interpolate(spec, a, moved), data)

    judged = draw(fixed_key)
    sloped = [
        k
        for k, (role, leaf) in enumerate(zip(leaf_roles(spec, a), jax.tree.leaves(a), strict=True))
        if role == "weight" and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]

    def part(params):
        # in at least 32 bits: in fewer, steps of this size round to nothing
        arrays = (jnp.asarray(jax.tree.leaves(params)[k]) for k in sloped)
        return [array.astype(wide(array.dtype)) for array in arrays]

    def put(params, arrays):
        leaves = dict(enumerate(jax.tree.leaves(params))) | dict(zip(sloped, arrays, strict=True))
        return spec.treedef.unflatten(leaves.values())

    def step(state, key):
        free, opt, perms, best, lowest = state
        match_key, data_key = jax.random.split(key)
        perms = weight_matching(spec, put(a, free), b, key=match_key, start=Alignment(perms)).perms
        moved = permute(spec, b, perms)
        value = midpoint(moved, judged)
        best = jax.tree.map(lambda x, y: jnp.where(value < lowest, x, y), perms, best)
        grads = jax.grad(lambda arrays: midpoint(put(moved, arrays), draw(data_key)))(part(moved))
        # the direction of descent in a complex number is against the conjugate of JAX's gradient
        updates, opt = optimiser.update(jax.tree.map(jnp.conj, grads), opt)
        return (optax.apply_updates(free, updates), opt, perms, best, jnp.minimum(value, lowest)), value

    perms = start_perms(spec, start)
    state = (part(a), optimiser.init(part(a)), perms, perms, jnp.float32(jnp.inf))
    (_, _, _, best, _), history = jax.lax.scan(step, state, jax.random.split(loop_key, iterations))
    return Alignment(best, None, history)
