"""The straight-through estimator of Git Re-Basin (Ainsworth et al. 2023, section 3.3)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dwalign.bounds import Amount, Count, Number
from dwalign.matching.method import method
from dwalign.matching.objective import loss_of, start_perms
from dwalign.matching.weight import weight_matching
from dwalign.program import CLASSIFICATION, Data, Network, Task, count_examples, loops, take_examples
from dwalign.symmetry import Alignment, interpolate, part_of, permute, wide

PyTree = Any


@method("straight-through", "#e69f00", needs="labels", count=("iterations", "{} iterations"))
def straight_through(
    network: Network,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    data: Data,
    task: Task = CLASSIFICATION,
    start: Alignment | None = None,
    iterations: Amount = 200,
    learning_rate: Number = 1e-3,
    images: Count = 256,
) -> Alignment:
    """Learn free weights w, started at a, whose best weight matching P of b makes a good midpoint with a.

    Each step matches b to w (from the last permutation), takes the gradient of L((a + P.b) / 2) as that of w, and moves
    w by Adam. Quantised weights have no slope and stay those of a. The permutation with the lowest midpoint loss on
    `images` fixed images is returned.

    Args:
      network, a, b: what is matched.
      key: draws images and the order of the groups.
      data: inputs and labels of the training set, trees of `[m, ...]`.
      start: where the first matching starts; the identity by default.
      iterations, learning_rate, images: of the optimisation.
      task: what the networks are for.
    """
    spec, loss = network.spec, loss_of(network, task)
    optimiser = optax.adam(learning_rate)
    count = count_examples(data)
    fixed_key, loop_key = jax.random.split(key)

    def draw(key):
        index = jax.random.randint(key, (min(images, count),), 0, count)
        return take_examples(data, index)

    def midpoint(moved, data):
        return loss(interpolate(spec, a, moved), data)

    judged = draw(fixed_key)
    # in at least 32 bits: in fewer, steps of this size round to nothing
    part = lambda params: [array.astype(wide(array.dtype)) for array in part_of(spec, params, "weight")[0]]
    put = lambda params, arrays: part_of(spec, params, "weight")[1](arrays)

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
    (_, _, _, best, _), history = loops.scan(step, state, jax.random.split(loop_key, iterations))
    return Alignment(best, None, history)
