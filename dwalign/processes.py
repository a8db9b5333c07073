"""The processes of `jax.distributed`, of which most programs have one."""

import jax
from jax.experimental import multihost_utils


def wait_for_all(where: str) -> None:
    """Return when every process has come here; at once where there is one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
