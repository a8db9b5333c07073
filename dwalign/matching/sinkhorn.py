"""Sinkhorn re-basin: gradient descent on relaxed permutations with the task loss (Pena et al. 2023)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.assignment import neutral
from dwalign.bounds import Amount, Count, Number, Positive
from dwalign.matching.latents import begin, harden, scores_in, soften
from dwalign.matching.method import method
from dwalign.matching.objective import (
    better_of,
    loss_of,
    random_scores,
    standardise,
    start_perms,
    start_scores,
)
from dwalign.program import CLASSIFICATION, Data, Network, Task, count_examples, loops, on_average, take_examples
from dwalign.symmetry import Alignment

PyTree = Any


@method("Sinkhorn re-basin", "#b86b98", needs="labels", name="sinkhorn", count=("iterations", "{} iterations"))
def sinkhorn_rebasin(
    network: Network,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    data: Data,
    task: Task = CLASSIFICATION,
    start: Alignment | None = None,
    iterations: Amount = 1000,
    learning_rate: Number = 0.1,
    images: Count = 256,
    spread: Number = 1.0,
    temperature: Positive = 1.0,
    sinkhorn_iterations: Count = 20,
) -> Alignment:
    """Minimise the task loss at random points between a and the softly aligned b by Adam.

    The steps only lower the loss of soft alignments, so the start is returned where its permutation has the lower loss
    at the midpoint on the batch.

    Args:
      network, a, b: what is matched.
      key: draws the start, the images and the points on the path.
      data: inputs and labels of the training set, trees of `[m, ...]`.
      start: an alignment whose scores (or else permutations) are the first logits; without one these are the identity
        with normal noise of 0.1, as in the reference.
      iterations: gradient steps (the paper's comparison takes 1000).
      learning_rate: of Adam on the logits, the reference's.
      images: drawn for each step.
      spread: a start's scores are centred and scaled to this standard deviation in each group: at their own scale those
        of some methods are as good as uniform, and those of others cannot be moved.
      temperature, sinkhorn_iterations: of the projection.
      task: what the networks are for.
    """
    spec, loss = network.spec, loss_of(network, task)
    count = count_examples(data)
    start_key, loop_key = jax.random.split(key)

    def begun():
        if start is not None:
            return begin(spec, a, b, start, standardise(start_scores(start), spread))
        first, noise = Alignment(neutral(spec)), random_scores(spec, start_key)
        return begin(spec, a, b, first, jax.tree.map(lambda x, q: x + 0.1 * q, start_scores(first), noise))

    optimiser = optax.adam(learning_rate)
    projection = dict(temperature=temperature, iterations=sinkhorn_iterations, symmetric=False, solver="scaling")

    def objective(latents, key):
        image_key, point_key = jax.random.split(key)
        index = jax.random.randint(image_key, (min(images, count),), 0, count)
        point = jax.random.uniform(point_key, dtype=jnp.float32)
        part, plans = take_examples(data, index), soften(spec, latents, **projection)
        return on_average(lambda params: loss(params, part), spec, a, b, plans, point)

    def step(state, key):
        latents, opt = state
        value, grads = jax.value_and_grad(objective)(latents, key)
        updates, opt = optimiser.update(grads, opt)
        return (optax.apply_updates(latents, updates), opt), value

    keys = jax.random.split(loop_key, iterations)
    first = begun()
    before = harden(spec, first) if start is None else start_perms(spec, start)
    (last, _), history = loops.scan(step, (first, optimiser.init(first)), keys)

    def on_all(params):
        # as many at once as in a step; the last few that fill no part are left out
        part = jax.random.permutation(start_key, count)[: count - count % min(images, count)]
        parts = part.reshape(-1, min(images, count))
        return loops.map(lambda index: loss(params, take_examples(data, index)), parts).mean()

    perms, moved = better_of(spec, a, b, (before, False), (harden(spec, last), True), on_all)
    # the start is made anew where it is returned, so that no step has it in memory
    kept = jax.lax.cond(moved, lambda: last, begun)
    return Alignment(perms, scores_in(kept), history)
