"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from dwalign.assignment import hungarian
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import group_scores, match_scores
from dwalign.symmetry import (
    Alignment,
    Block,
    PermutationSpec,
    inner_product,
    permute_blocks,
    random_perms,
    weight_blocks,
)

PyTree = Any


@method("weight matching", "#0072b2", needs="weights", count=("restarts", "best of {}"))
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

    Statistics and arrays that carry no group have no say (`dwalign.symmetry.weight_blocks`).

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
    run_key, start_key = jax.random.split(key)
    first = start_perms(spec, start)
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
    """<a, P.b>, summed over all weights that carry a group; the others add a constant."""
    return _objective(spec, weight_blocks(spec, a), weight_blocks(spec, b), perms)


def _objective(spec, blocks_a, blocks_b, perms):
    return inner_product(blocks_a, permute_blocks(spec, blocks_b, perms))


def _descend(spec, a, b, key, perms, sweeps):
    blocks = weight_blocks(spec, a), weight_blocks(spec, b)
    # the search ends in integers, and neither its loop nor sequential_vmap can be linearised
    arrays = jax.lax.stop_gradient([[block.array for block in of] for of in blocks])
    filled = lambda of, arrays: [block._replace(array=array) for block, array in zip(of, arrays, strict=True)]

    def run(arrays, key, perms):
        return _descend_one(spec, *map(filled, blocks, arrays), key, perms, sweeps)

    # vmapped, every step would solve the problems of all groups, until the slowest pair is done
    return sequential_vmap(run)(arrays, key, perms)


def _descend_one(spec, blocks_a: list[Block], blocks_b: list[Block], key, perms, sweeps):
    groups = tuple(spec.sizes)
    own = {group: group_scores(spec, blocks_a, blocks_b, {}, group, own=True) for group in groups}
    value_of = lambda perms: _objective(spec, blocks_a, blocks_b, perms)

    quadratic = {g for block in blocks_a for g in groups if block.factors.count(g) > 1}

    def improve(group, perms):
        scores = own[group] + group_scores(spec, blocks_a, blocks_b, perms, group, own=False)
        new = {**perms, group: hungarian(scores)}
        if group not in quadratic:
            return new
        # the best assignment of the linearised score need not raise the score itself
        rises = value_of(new) > value_of(perms)
        return jax.tree.map(lambda x, y: jnp.where(rises, x, y), new, perms)

    # without groups a sweep has no steps, but what a step would be must be known
    branches: list[Any] = [functools.partial(improve, group) for group in groups] or [dict]

    def sweep(state):
        perms, history, count, _ = state
        before = value_of(perms)
        order = jax.random.permutation(jax.random.fold_in(key, count), len(groups))
        new, _ = jax.lax.scan(lambda p, g: (jax.lax.switch(g, branches, p), None), perms, order)
        after = value_of(new)
        # ties and rounding must not let the objective fall or the loop run on
        better = after > before + 1e-6 * jnp.abs(before)
        perms = jax.tree.map(lambda x, y: jnp.where(better, x, y), new, perms)
        value = jnp.where(better, after, before)
        history = jnp.where(jnp.arange(sweeps) >= count, value, history)
        return perms, history, count + 1, better

    start = (perms, jnp.full(sweeps, -jnp.inf, value_of(perms).dtype), jnp.int32(0), jnp.array(True))
    perms, history, _, _ = jax.lax.while_loop(lambda s: s[3] & (s[2] < sweeps), sweep, start)
    return perms, history
