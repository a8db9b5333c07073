"""Pairs of networks drawn from a zoo."""

import jax
import jax.numpy as jnp

from dwalign.bounds import Amount, Count, Several, bounded


@bounded
def random_pairs(
    key: jax.Array, networks: Several, count: Count, *, views: Several | None = None
) -> tuple[jax.Array, jax.Array]:
    """Indices `[count]` and `[count]` of pairs of two different networks, with replacement between pairs.

    With `views`, both are of the same run of so many consecutive networks: the views of one signal.
    """
    views = networks if views is None else views
    first_key, offset_key = jax.random.split(key)
    first = jax.random.randint(first_key, (count,), 0, networks)
    offset = jax.random.randint(offset_key, (count,), 1, views)
    return first, first // views * views + (first % views + offset) % views


@bounded
def held_out_pairs(networks: Amount, *, views: Several | None = None) -> tuple[jax.Array, jax.Array]:
    """Disjoint pairs (0, 1), (2, 3), ...: every network is used at most once, so that pairs are independent.

    With `views`, both are of the same run of so many consecutive networks; the last of an odd run is left out.
    """
    views = networks if views is None else views
    runs = jnp.arange(networks - networks % views).reshape(-1, views)
    return runs[:, 0 : views - 1 : 2].reshape(-1), runs[:, 1::2].reshape(-1)
