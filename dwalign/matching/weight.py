"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from dwalign.assignment import hungarian
from dwalign.matching.scores import match_scores, neighbour_scores, own_scores
from dwalign.symmetry import Alignment, PermutationSpec, identity, permute, random_perms

PyTree = Any


def weight_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    start: Alignment | None = None,
    restarts: int = 1,
    sweeps: int = 100,
) -> Alignment:
    """Match units by the weights they touch, one group at a time, until nothing changes.

    Args:
      spec, a, b: what is matched.
      key: draws the order of the groups in every sweep and the restarts.
      start: where the first run starts; the identity by default, as in the reference.
      restarts: number of runs, the others from random permutations; the one with the largest objective is returned.
      sweeps: at most so many passes over all groups.

    Returns:
      `history` holds <a, P.b> after each sweep, `[sweeps]`, constant once converged; it never decreases. `scores` are
      the weight-matching scores at the result, through which gradients with respect to a and b flow.
    """
    if restarts < 1 or sweeps < 1:
        raise ValueError(f"weight_matching: restarts and sweeps must be at least 1, got {restarts} and {sweeps}")
    spec.check_pair(a, b)
    run_key, start_key = jax.random.split(key)
    first = identity(spec) if start is None else start.perms
    if restarts == 1:
        perms, history = _descend(spec, a, b, run_key, first, sweeps)
    else:
        others = jax.vmap(lambda k: random_perms(spec, k))(jax.random.split(start_key, restarts - 1))
        starts = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), first, others)
        runs = jax.vmap(lambda k, s: _descend(spec, a, b, k, s, sweeps))(jax.random.split(run_key, restarts), starts)
        best = jnp.argmax(runs[1][:, -1])
        perms, history = jax.tree.map(lambda x: x[best], runs)
    return Alignment(perms, match_scores(spec, a, b, perms), history)


def objective(spec: PermutationSpec, a: PyTree, b: PyTree, perms: dict[str, jax.Array]) -> jax.Array:
    """<a, P.b>, summed over all weights."""
    moved = permute(spec, b, perms)
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(moved), strict=True))


def _descend(spec, a, b, key, perms, sweeps):
    # the search ends in integers, and neither its loop nor sequential_vmap can be linearised
    a, b = jax.lax.stop_gradient((a, b))
    # vmapped, every step would solve the problems of all groups, until the slowest pair is done
    run = sequential_vmap(lambda a, b, key, perms: _descend_one(spec, a, b, key, perms, sweeps))
    return run(a, b, key, perms)


def _descend_one(spec, a, b, key, perms, sweeps):
    groups = tuple(spec.sizes)
    own = own_scores(spec, a, b)

    quadratic = {g for block in spec.blocks(a) for g in spec.sizes if block.factors.count(g) > 1}

    def improve(group, perms):
        scores = own[group] + neighbour_scores(spec, a, b, perms, group)
        new = {**perms, group: hungarian(scores).astype(perms[group].dtype)}
        if group not in quadratic:
            return new
        # the best assignment of the linearised score need not raise the score itself
        rises = objective(spec, a, b, new) > objective(spec, a, b, perms)
        return jax.tree.map(lambda x, y: jnp.where(rises, x, y), new, perms)

    branches = [lambda perms, group=group: improve(group, perms) for group in groups]

    def sweep(state):
        perms, history, count, _ = state
        before = objective(spec, a, b, perms)
        order = jax.random.permutation(jax.random.fold_in(key, count), len(groups))
        new, _ = jax.lax.scan(lambda p, g: (jax.lax.switch(g, branches, p), None), perms, order)
        after = objective(spec, a, b, new)
        # ties and rounding must not let the objective fall or the loop run on
        better = after > before + 1e-6 * jnp.abs(before)
        perms = jax.tree.map(lambda x, y: jnp.where(better, x, y), new, perms)
        value = jnp.where(better, after, before)
        history = jnp.where(jnp.arange(sweeps) >= count, value, history)
        return perms, history, count + 1, better

    start = (perms, jnp.full(sweeps, -jnp.inf), jnp.int32(0), jnp.array(True))
    perms, history, _, _ = jax.lax.while_loop(lambda s: s[3] & (s[2] < sweeps), sweep, start)
    return perms, history
