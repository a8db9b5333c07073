"""Sinkhorn re-basin: gradient descent on relaxed permutations with the task loss (Pena et al. 2023)."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from dwalign.assignment import hungarian, soft_assign
from dwalign.matching.objective import check_batch, cross_entropy, random_scores, standardise, start_scores
from dwalign.symmetry import Alignment, PermutationSpec, identity, interpolate, permute, to_matrices

PyTree = Any


def sinkhorn_rebasin(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    apply: Callable,
    batch: tuple[jax.Array, jax.Array],
    start: Alignment | None = None,
    iterations: int = 1000,
    learning_rate: float = 0.1,
    images: int = 256,
    spread: float = 1.0,
    temperature: float = 1.0,
    sinkhorn_iterations: int = 20,
    loss: Callable | None = None,
) -> Alignment:
    """Minimise the task loss at random points between a and the softly aligned b by Adam.

    Args:
      spec, a, b: what is matched.
      key: draws the start, the images and the points on the path.
      apply: `(params, inputs) -> outputs`.
      batch: inputs `[m, ...]` and labels `[m]` of the training set.
      start: an alignment whose scores (or else permutations) are the first logits; without one these are the identity
        with normal noise of 0.1, as in the reference.
      iterations: gradient steps (the paper's comparison takes 1000).
      learning_rate: of Adam on the logits, the reference's.
      images: drawn for each step.
      spread: a start's scores are centred and scaled to this standard deviation in each group: at their own scale those
        of some methods are as good as uniform, and those of others cannot be moved.
      temperature, sinkhorn_iterations: of the projection.
      loss: `(outputs, labels) -> scalar`; mean softmax cross-entropy by default.
    """
    check_batch("sinkhorn_rebasin", batch)
    spec.check_pair(a, b)
    loss = loss or cross_entropy
    start_key, loop_key = jax.random.split(key)
    if start is None:
        noise = random_scores(spec, start_key)
        scores = jax.tree.map(lambda matrix, q: matrix + 0.1 * q, to_matrices(identity(spec)), noise)
    else:
        scores = standardise(start_scores(start), spread)
    optimiser = optax.adam(learning_rate)

    def objective(scores, key):
        image_key, point_key = jax.random.split(key)
        index = jax.random.randint(image_key, (min(images, batch[1].shape[0]),), 0, batch[1].shape[0])
        plans = soft_assign(
            scores, temperature=temperature, iterations=sinkhorn_iterations, symmetric=False, solver="scaling"
        )
        moved = permute(spec, b, plans)
        point = jax.random.uniform(point_key)
        between = interpolate(spec, a, moved, point)
        return loss(apply(between, batch[0][index]), batch[1][index])

    def step(state, key):
        scores, opt = state
        value, grads = jax.value_and_grad(objective)(scores, key)
        updates, opt = optimiser.update(grads, opt)
        return (optax.apply_updates(scores, updates), opt), value

    keys = jax.random.split(loop_key, iterations)
    (scores, _), history = jax.lax.scan(step, (scores, optimiser.init(scores)), keys)
    return Alignment(hungarian(scores), scores, history)
