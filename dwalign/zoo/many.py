"""Zoos of any size, trained by one process or by many."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from dwalign.bounds import Amount, Count, bounded
from dwalign.processes import wait_for_all
from dwalign.program import CLASSIFICATION, Data, Network, Task
from dwalign.zoo.recipe import Recipe
from dwalign.zoo.records import Networks, open_networks, save_networks
from dwalign.zoo.storage import describe_network, hash_of
from dwalign.zoo.train import train_networks


@bounded
def make_networks(
    network: Network,
    data: Data,
    recipe: Recipe,
    count: Count,
    *,
    folder: str | Path,
    shard: Count = 1000,
    batch: Count = 50,
    seed: Amount = 0,
    task: Task = CLASSIFICATION,
) -> Networks:
    """Train networks into a folder of records, of which memory never holds more than a shard.

    Network k is trained from seed `seed + k`, whoever trains it. Under `jax.distributed` each process takes its share
    of the shards, into a folder that all of them see; what is there is kept, so that the same call goes on after an
    interruption, also with another number of processes.

    Args:
      network, data, recipe, task: what is trained, on what, how and for what; see `train_networks`.
      count: of all networks.
      folder: one for this zoo alone.
      shard: networks a file.
      batch: networks that are trained at once.
      seed: of the first.

    Returns:
      All networks, those of other processes too.

    Raises:
      FileError: the folder cannot be written, or holds networks of another count, shard or shape.
      ValueError: the network cannot be initialised, or a batch of the recipe is larger than the data.
    """
    train = train_networks(network, jax.device_put(data), recipe, task)

    def make(number: int):
        begin, end = number * shard, min((number + 1) * shard, count)
        # the last batch trains more than is kept: all are one program
        parts = [train(seed + jnp.arange(at, at + batch)) for at in range(begin, end, batch)]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[: end - begin], *parts)

    about = {
        "network": describe_network(network),
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "data": [hash_of(part) for part in data],
    }
    save_networks(folder, make, count, shard=shard, turn=(jax.process_index(), jax.process_count()), about=about)
    wait_for_all("make_networks")
    return open_networks(folder, network.params)
