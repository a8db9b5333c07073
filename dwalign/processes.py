"""The processes of `jax.distributed`, of which most programs have one, and their devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def wait_for_all(where: str) -> None:
    """Return when every process has come here; at once where there is one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def is_first() -> bool:
    """Whether this is the process that writes what all of them have."""
    return jax.process_index() == 0


def own(tree: Any) -> Any:
    """Arrays that every process holds whole, as arrays of this process alone: the same ones where there is one."""
    return tree if jax.process_count() == 1 else jax.device_get(tree)


def over_devices() -> NamedSharding:
    """The division of pairs, or of networks, over the devices of this process alone."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("pairs",)), PartitionSpec("pairs"))


def apart(one: Callable, shared: int, over: NamedSharding) -> Callable:
    """`one` of many pairs, divided like this over devices: each has pairs of its own, and waits for no other.

    Args:
      one: of one pair; its first `shared` arguments are the same for all of them.
    """

    def run(*args):
        own = len(args) - shared
        each = jax.vmap(one, (None,) * shared + (0,) * own)
        # left to XLA, what is done for one pair after the other would gather the pairs of all devices on each
        divided = (PartitionSpec(),) * shared + (over.spec,) * own
        return jax.shard_map(each, mesh=over.mesh, in_specs=divided, out_specs=over.spec, check_vma=False)(*args)

    return run
