"""Alignments found by an optimiser for pairs of training networks, as targets for the aligner."""

from typing import Any

import jax
import jax.numpy as jnp

from dwalign.bounds import Count, bounded
from dwalign.deepalign.step import Targets
from dwalign.extras import progress
from dwalign.matching import Method
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.symmetry import count_networks, take_networks
from dwalign.zoo import random_pairs

PyTree = Any


@bounded
def find_targets(
    network: Network,
    method: Method,
    networks: PyTree,
    key: jax.Array,
    *,
    pairs: Count,
    data: Data | None = None,
    task: Task = CLASSIFICATION,
    chunk: Count = 50,
) -> Targets:
    """Align random pairs of training networks, `chunk` pairs at a time.

    Args:
      network: what they are.
      method: by which they are aligned; `data` and `task` as it needs them.
      networks: stacked, leaves `[n, ...]`.
      key: draws the pairs, and what the method draws.
    """
    pair_key, method_key = jax.random.split(key)
    first, second = random_pairs(pair_key, count_networks(networks), pairs)
    solve = jax.jit(jax.vmap(lambda a, b, k: method(network, a, b, key=k, data=data, task=task).perms))
    keys = jax.random.split(method_key, pairs)
    found = []
    with progress(total=pairs, desc="aligning training pairs", unit="pair") as bar:
        for k in range(0, pairs, chunk):
            index = jnp.minimum(jnp.arange(k, k + chunk), pairs - 1)
            perms = solve(take_networks(networks, first[index]), take_networks(networks, second[index]), keys[index])
            found.append(jax.block_until_ready(perms))
            bar.update(min(chunk, pairs - k))
    perms = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:pairs], *found)
    return Targets(first, second, perms)
