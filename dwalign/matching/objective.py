"""What the methods that descend on a task loss share: the loss, and scores to start from."""

import jax
import jax.numpy as jnp
import optax

from dwalign.symmetry import Alignment, PermutationSpec, to_matrices

Scores = dict[str, jax.Array]


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy in nats; outputs `[m, classes]`, integer labels `[m]`."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def check_batch(method: str, batch: tuple[jax.Array, jax.Array] | None) -> None:
    """Raise `ValueError` unless `batch` is (inputs `[m, ...]`, labels `[m, ...]`) with m > 0."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(
            f"{method}: batch must be a pair (inputs [m, ...], labels [m]) of training data, got {type(batch).__name__}"
        )
    counts = [jnp.shape(part)[0] if jnp.ndim(part) else None for part in batch]
    if counts[0] != counts[1] or not counts[0]:
        raise ValueError(
            f"{method}: inputs and labels must hold equally many examples and at least one, "
            f"found shapes {jnp.shape(batch[0])} and {jnp.shape(batch[1])}"
        )


def random_scores(spec: PermutationSpec, key: jax.Array) -> Scores:
    """Standard normal scores, `[*batch, n, n]` for each group."""
    keys = jax.random.split(key, len(spec.sizes))
    return {
        g: jax.random.normal(k, (*spec.batch_shape(g), n, n))
        for k, (g, n) in zip(keys, spec.sizes.items(), strict=True)
    }


def start_scores(start: Alignment) -> Scores:
    """The scores of an alignment, or its permutations as matrices where its method has no scores."""
    return start.scores if start.scores is not None else to_matrices(start.perms)


def standardise(scores: Scores, spread: float) -> Scores:
    """Centred and scaled to a standard deviation of `spread` in each group."""

    def one(q):
        q = q - jnp.mean(q, (-1, -2), keepdims=True)
        return spread * q * jax.lax.rsqrt(jnp.mean(q**2, (-1, -2), keepdims=True) + 1e-12)

    return {g: one(q) for g, q in scores.items()}
