"""What the methods that descend on a task loss share: the loss, scores to start from, and which result is returned."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dwalign.matching.batch import read_batch
from dwalign.program import Units
from dwalign.symmetry import (
    Alignment,
    PermutationSpec,
    SpecError,
    check_perms,
    identity,
    interpolate,
    namespace,
    permute,
    to_matrices,
)

PyTree = Any
Scores = dict[str, jax.Array]


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy in nats; outputs `[m, classes]`, integer labels `[m]`."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def read_task(
    method: str, apply: Callable, params: PyTree, batch: tuple[PyTree, PyTree], loss: Callable | None
) -> tuple[Callable[[PyTree, tuple[PyTree, PyTree]], jax.Array], tuple[PyTree, PyTree]]:
    """`task(params, batch)`, the loss of one network as a float32 scalar, and the batch that it may be given parts of.

    Args:
      method: named in errors.
      apply: `(params, inputs) -> outputs`.
      params: of one network.
      batch: see `dwalign.matching.batch`.
      loss: `(outputs, labels) -> scalar`; mean softmax cross-entropy by default.

    Raises:
      ValueError: the batch is unusable, `apply` gives hidden units too, labels are no classes of the outputs, or the
        loss is no scalar.
    """
    inputs, labels = read_batch(method, batch)
    outputs = jax.eval_shape(apply, params, inputs)
    if isinstance(outputs, tuple) and any(isinstance(part, Units) for part in outputs):
        raise ValueError(f"{method}: apply must give the outputs alone, found outputs and Units; pass network.apply")
    if loss is None:
        _check_labels(method, outputs, labels)
    chosen = loss or cross_entropy
    if (found := jax.eval_shape(chosen, outputs, labels)) is None or jnp.shape(found):
        raise ValueError(
            f"{method}: loss(outputs, labels) must be a scalar, found {found and jnp.shape(found)}; take the mean over "
            "examples"
        )
    task = lambda params, batch: jnp.asarray(chosen(apply(params, batch[0]), batch[1]), jnp.float32)
    return task, (inputs, labels)


def _check_labels(method: str, outputs: PyTree, labels: PyTree) -> None:
    fit = "; pass loss= where the task is another"
    if not isinstance(outputs, jax.ShapeDtypeStruct) or not isinstance(labels, jax.Array):
        raise ValueError(f"{method}: cross-entropy needs one array of outputs and one of labels, found trees{fit}")
    whole = jnp.issubdtype(labels.dtype, jnp.integer)
    if not whole or not outputs.shape or labels.shape != outputs.shape[:-1]:
        raise ValueError(
            f"{method}: cross-entropy needs integer labels of shape {outputs.shape[:-1]} for outputs {outputs.shape}, "
            f"found {labels.dtype} {labels.shape}{fit}"
        )
    if isinstance(labels, jax.core.Tracer):
        return
    with jax.ensure_compile_time_eval():
        least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= outputs.shape[-1]:
        raise ValueError(
            f"{method}: labels must be classes of the outputs, 0 to {outputs.shape[-1] - 1}, found {least} to "
            f"{most}{fit}"
        )


def random_scores(spec: PermutationSpec, key: jax.Array) -> Scores:
    """Standard normal scores, `[*batch, n, n]` for each group."""
    keys = jax.random.split(key, len(spec.sizes))
    return {
        g: jax.random.normal(k, (*spec.batch_shape(g), n, n), jnp.float32)
        for k, (g, n) in zip(keys, spec.sizes.items(), strict=True)
    }


def start_perms(spec: PermutationSpec, start: Alignment | None) -> dict[str, jax.Array]:
    """The permutations of an alignment as int32; the identity without one.

    Raises `SpecError` where they are not those of this spec.
    """
    if start is None:
        return identity(spec)
    check_perms("start", spec, start.perms)
    if missing := set(spec.sizes) - set(start.perms):
        raise SpecError(f"start: perms must name every group of the spec, found none for {sorted(missing)}")
    as_index = lambda perm: namespace(perm).asarray(perm, np.int32)
    return {g: as_index(start.perms[g]) for g in spec.sizes}


def start_scores(start: Alignment) -> Scores:
    """The scores of an alignment, or its permutations as matrices where its method has no scores; float32."""
    scores = start.scores if start.scores is not None else to_matrices(start.perms)
    return {g: jnp.asarray(q, jnp.float32) for g, q in scores.items()}


def standardise(scores: Scores, spread: float) -> Scores:
    """Centred and scaled to a standard deviation of `spread` in each group."""

    def one(q):
        q = q - jnp.mean(q, (-1, -2), keepdims=True)
        return spread * q * jax.lax.rsqrt(jnp.mean(q**2, (-1, -2), keepdims=True) + 1e-12)

    return {g: one(q) for g, q in scores.items()}


def better_of(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    first: tuple[PyTree, PyTree],
    second: tuple[PyTree, PyTree],
    task_loss: Callable[[PyTree], jax.Array],
) -> tuple[PyTree, PyTree]:
    """That (permutations, scores) whose permutations give the lower loss at the midpoint; the second of equal ones."""
    before, after = (midpoint_loss(spec, a, b, perms, task_loss) for perms, _ in (first, second))
    return jax.tree.map(lambda x, y: jnp.where(before < after, x, y), first, second)


def midpoint_loss(
    spec: PermutationSpec, a: PyTree, b: PyTree, alignment: Any, task_loss: Callable[[PyTree], jax.Array]
) -> jax.Array:
    """`task_loss` of (a + P.b) / 2; P is permutations or matrices."""
    return task_loss(interpolate(spec, a, permute(spec, b, alignment)))
