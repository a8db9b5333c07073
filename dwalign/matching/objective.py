"""What the methods that descend on a task loss share: the loss, scores to start from, which result is returned."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.assignment import as_elements, neutral
from dwalign.program import Data, Network, Task, on_average
from dwalign.symmetry import (
    Alignment,
    PermutationSpec,
    kind,
    namespace,
    to_matrices,
)

PyTree = Any
Scores = dict[str, jax.Array]


def loss_of(network: Network, task: Task) -> Callable[[PyTree, Data], jax.Array]:
    """`(params, data) -> scalar`, the loss of one network of which the weights are still being mixed.

    Traced once for all the places at which a method asks for it.
    """
    return jax.jit(lambda params, data: task.lost(network.respond(params, data.inputs), data.labels))


def random_scores(spec: PermutationSpec, key: jax.Array) -> Scores:
    """Standard normal scores, `[*batch, n, n]` for each group."""
    keys = jax.random.split(key, len(spec.sizes))
    return {
        g: jax.random.normal(k, (*spec.batch_shape(g), n, n), jnp.float32)
        for k, (g, n) in zip(keys, spec.sizes.items(), strict=True)
    }


def start_perms(spec: PermutationSpec, start: Alignment | None) -> dict[str, jax.Array]:
    """The elements of an alignment, indices as int32; the neutral ones without one."""
    if start is None:
        return neutral(spec)
    as_index = lambda perm: namespace(perm).asarray(perm, np.int32) if kind(perm) == "integer" else perm
    return as_elements(spec, {g: jax.tree.map(as_index, start.perms[g]) for g in spec.sizes})


def start_scores(start: Alignment) -> Scores:
    """The scores of an alignment, or its permutations as matrices where its method has no scores; float32."""
    scores = start.scores if start.scores is not None else to_matrices(start.perms)
    return {g: jnp.asarray(q, jnp.float32) for g, q in scores.items()}


def standardise(scores: Scores, spread: float) -> Scores:
    """Centred and scaled to a standard deviation of `spread` in each group."""

    def one(q):
        q = q - jnp.mean(q, (-1, -2), keepdims=True)
        q = lifted(q, (-1, -2))
        return spread * q * jax.lax.rsqrt(jnp.mean(q**2, (-1, -2), keepdims=True) + 1e-12)

    return {g: one(q) for g, q in scores.items()}


def lifted(x: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """Over its largest what is so small that its squares are lost beside constants, or altogether; else as it is.

    To be made of one size afterwards: the factor is a constant for gradients.
    """
    largest = jax.lax.stop_gradient(jnp.max(abs(x), axis, keepdims=True))
    return x / jnp.where((largest > 0) & (largest < 1e-6), largest, 1)


def better_of(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    first: tuple[PyTree, PyTree],
    second: tuple[PyTree, PyTree],
    task_loss: Callable[[PyTree], jax.Array],
) -> tuple[PyTree, PyTree]:
    """That (permutations, scores) whose permutations give the lower loss at the midpoint; the second of equal ones."""
    judge = jax.jit(lambda perms: midpoint_loss(spec, a, b, perms, task_loss))
    before, after = (judge(perms) for perms, _ in (first, second))
    return jax.tree.map(lambda x, y: jnp.where(before < after, x, y), first, second)


def midpoint_loss(
    spec: PermutationSpec, a: PyTree, b: PyTree, alignment: Any, task_loss: Callable[[PyTree], jax.Array]
) -> jax.Array:
    """`task_loss` of (a + P.b) / 2; P is permutations or matrices."""
    return on_average(task_loss, spec, a, b, alignment)
