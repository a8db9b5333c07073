from typing import Any

from dwalign.networks.mlp import MLP, mlp
from dwalign.networks.network import Network, from_module, reset_statistics

KINDS = {"mlp": mlp}


def build(config: dict[str, Any]) -> Network:
    """The network of a `Network.config`."""
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"network: kind must be one of {sorted(KINDS)}, got {kind!r}")
    return KINDS[kind](**options)


__all__ = ["KINDS", "MLP", "Network", "build", "from_module", "mlp", "reset_statistics"]
