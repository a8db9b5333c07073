"""Alignments found by an optimiser for pairs of training networks, as targets for the aligner."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

from dwalign.deepalign.step import Targets
from dwalign.symmetry import Alignment
from dwalign.zoo import random_pairs, size, take

PyTree = Any


def find_targets(
    method: Callable[..., Alignment], networks: PyTree, key: jax.Array, *, pairs: int, chunk: int = 50
) -> Targets:
    """Align random pairs of training networks with `method(a, b, key=key)`, `chunk` pairs at a time."""
    pair_key, method_key = jax.random.split(key)
    first, second = random_pairs(pair_key, size(networks), pairs)
    solve = jax.jit(jax.vmap(lambda a, b, k: method(a, b, key=k).perms))
    keys = jax.random.split(method_key, pairs)
    found = []
    with tqdm(total=pairs, desc="aligning training pairs", unit="pair") as bar:
        for k in range(0, pairs, chunk):
            index = jnp.minimum(jnp.arange(k, k + chunk), pairs - 1)
            perms = solve(take(networks, first[index]), take(networks, second[index]), keys[index])
            found.append(jax.block_until_ready(perms))
            bar.update(min(chunk, pairs - k))
    perms = jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:pairs], *found)
    return Targets(first, second, perms)
