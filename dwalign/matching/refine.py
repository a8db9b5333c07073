"""Midpoint refinement: a few normalised gradient steps on the scores of a soft alignment."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.assignment import neutral
from dwalign.bounds import Amount, Count, Number
from dwalign.matching.latents import Latents, begin, harden, scores_in, soften
from dwalign.matching.method import method
from dwalign.matching.objective import (
    better_of,
    lifted,
    loss_of,
    midpoint_loss,
    random_scores,
    standardise,
    start_perms,
    start_scores,
)
from dwalign.program import CLASSIFICATION, Data, Network, Task, count_examples, loops, take_examples
from dwalign.symmetry import Alignment, PermutationSpec, transpose

PyTree = Any
SPREAD = 2.0


@method("refinement", "#5d4a9c", needs="labels", count=("steps", "{} steps"))
def refine(
    network: Network,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    data: Data,
    task: Task = CLASSIFICATION,
    start: Alignment | None = None,
    steps: Amount = 20,
    learning_rate: Number = 0.3,
    momentum: Number = 0.5,
    spread: Number = SPREAD,
    iterations: Count = 10,
    examples: Count | None = None,
    images: Count | None = None,
) -> Alignment:
    """Lower the loss at the midpoint between a and the softly aligned b, from any start.

    With P = Sinkhorn(Q), a step takes G = d/dQ [L((a + P.b)/2) + L((P^T.a + b)/2)], divides it by its root mean square
    in each group, adds it to a velocity and moves Q against that; the step length falls to zero along a cosine. Both
    directions are averaged, so that swapping a and b transposes the result. The start's permutation is returned where
    that of the last step merges worse on the batch: the steps only lower the loss of soft alignments.

    Args:
      network, a, b: what is matched.
      key: draws the start where none is given.
      data: inputs and labels of training data, trees of `[m, ...]`; all of them are used in every step.
      task: what the networks are for.
      start: an alignment whose scores (or else permutations) are refined; None starts at random.
      steps, learning_rate, momentum: of the optimisation, in units of the scores.
      spread: the start's scores are centred and scaled to this standard deviation in each group, so that a start of
        any method arrives equally confident; over-confident starts cannot be moved.
      iterations: of Sinkhorn.
      examples: the first so many of the data are used; all by default.
      images: so many of these in each step, one after the other in an order that is drawn; all of them by default.
    """
    spec, loss = network.spec, loss_of(network, task)
    seen = take_examples(data, slice(examples))
    start_key, draw_key = jax.random.split(key)
    count: Any = count_examples(seen)
    order = None if images is None else draws(draw_key, count, images, steps)
    options: dict[str, Any] = dict(steps=steps, learning_rate=learning_rate, momentum=momentum, iterations=iterations)

    scores = standardise(random_scores(spec, start_key) if start is None else start_scores(start), spread)
    first = begin(spec, a, b, Alignment(neutral(spec)) if start is None else start, scores)
    last, history = refine_scores(spec, a, b, first, loss, seen, order, **options)
    begun = harden(spec, first) if start is None else start_perms(spec, start)
    on_all = lambda params: loss(params, seen)
    perms, kept = better_of(spec, a, b, (begun, first), (harden(spec, last), last), on_all)
    return Alignment(perms, scores_in(kept), history)


def refine_scores(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    latents: Latents,
    loss: Callable[[PyTree, PyTree], jax.Array],
    seen: PyTree,
    order: jax.Array | None = None,
    *,
    steps: int,
    learning_rate: float = 0.3,
    momentum: float = 0.5,
    iterations: int = 10,
    sharpen: Any = 1.0,
) -> tuple[Latents, jax.Array]:
    """The steps of `refine` from `latents` on, and the midpoint loss before each.

    Of groups that only exchange units latents are scores.

    Args:
      loss: `(params, examples) -> scalar`, of one network.
      seen: examples, leaves `[m, ...]`.
      order: which of them each step sees, `[steps, images]`; all if not given.
      sharpen: the temperature of soft orders falls from 1 to its inverse. Where norms make up for the spread that units
        lose when they are averaged, nothing else asks for whole units.
    """

    # traced once for both directions
    between = jax.jit(lambda a, b, plans, part: midpoint_loss(spec, a, b, plans, lambda params: loss(params, part)))

    def objective(latents, part, temperature):
        plans = soften(spec, latents, temperature=temperature, iterations=iterations, solver="scaling")
        return between(a, b, plans, part) + between(b, a, transpose(spec, plans), part)

    def step(state, now):
        (latents, velocity), (rate, temperature, index) = state, now
        part = seen if index is None else take_examples(seen, index)
        value, grads = jax.value_and_grad(objective)(latents, part, temperature)
        grads = jax.tree.map(lifted, grads)
        velocity = jax.tree.map(lambda v, g: momentum * v + g * jax.lax.rsqrt(jnp.mean(g**2) + 1e-20), velocity, grads)
        latents = jax.tree.map(lambda q, v: q - rate.astype(q.dtype) * v, latents, velocity)
        return (latents, velocity), 0.5 * value

    rates = learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * jnp.arange(steps) / max(steps, 1)))
    temperatures = 1 / jnp.linspace(1.0, sharpen, steps)
    (latents, _), history = loops.scan(
        step, (latents, jax.tree.map(jnp.zeros_like, latents)), (rates, temperatures, order)
    )
    return latents, history


def draws(key: jax.Array, count: int, images: int, steps: int) -> jax.Array:
    """Which of `count` examples each step sees, `[steps, images]`: all of them in turn, in another order each time."""
    rounds = -(-steps * images // count)
    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, rounds))
    return orders.reshape(-1)[: steps * images].reshape(steps, images)
