"""Aligners from a few plain options, and back from a checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.checkpoints import CheckpointError, Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.encoders import DWSEncoder, GraphEncoder, ProbeEncoder
from dwalign.networks import Network, build

PyTree = Any
ENCODERS = ("dws", "graph", "probe")


class AlignerConfig(NamedTuple):
    """The aligner's shape.

    Attributes:
      encoder: one of `ENCODERS`.
      channels: width of the encoder; None is the encoder's own default.
      depth: rounds of the graph encoder, hidden layers of dws.
      features: of a unit (graph, dws); the probe encoder has one for each response.
      updates: unrolled score updates.
      probes: inputs of the probe encoder.
    """

    encoder: str = "probe"
    channels: int | None = None
    depth: int = 4
    features: int = 128
    updates: int = 3
    probes: int = 128


def make_model(network: Network, config: AlignerConfig, inputs: jax.Array) -> DeepAlign:
    """The model for networks like `network`; `inputs` are training images, where the probe encoder starts."""
    spec, c = network.spec, config
    width = {} if c.channels is None else {"channels": c.channels}
    if c.encoder == "graph":
        encoder = GraphEncoder(spec, features=c.features, rounds=c.depth, **width)
    elif c.encoder == "dws":
        encoder = DWSEncoder(spec, features=c.features, depth=c.depth, **width)
    elif c.encoder == "probe":
        probes = jnp.asarray(inputs[: c.probes])
        width = {} if c.channels is None else {"features": c.channels}
        encoder = ProbeEncoder(spec, capture=network.capture, inputs=probes, **width)
    else:
        raise ValueError(f"encoder: must be one of {ENCODERS}, got {c.encoder!r}")
    return DeepAlign(spec, encoder, updates=c.updates)


def describe(network: Network, config: AlignerConfig, inputs: jax.Array) -> dict[str, Any]:
    """The JSON values from which `load_aligner` builds the model again."""
    return {"network": network.config, "aligner": config._asdict(), "input_shape": list(inputs.shape[1:])}


def load_aligner(folder: str | Path) -> Aligner:
    """The aligner in a checkpoint folder, such as `runs/mlp-digits/seed-0/checkpoints/best`.

    Raises:
      CheckpointError: no checkpoint, a damaged one, or one of something else.
    """
    if not Path(folder).is_dir():
        raise CheckpointError(f"{folder} must be a folder that holds a checkpoint; it does not exist")
    checkpoints = Checkpoints(folder)
    info = checkpoints.info()
    if not {"network", "aligner", "input_shape"} <= set(info):
        raise CheckpointError(
            f"{folder} must hold an aligner of dwalign, found a checkpoint that describes {sorted(info)}"
        )
    network, config = build(info["network"]), AlignerConfig(**info["aligner"])
    inputs = jnp.zeros((config.probes, *info["input_shape"]))
    model = make_model(network, config, inputs)
    example = jax.eval_shape(network.init, jax.random.key(0))
    like = jax.eval_shape(model.init, jax.random.key(0), example, example)
    return Aligner(model, checkpoints.restore(like))
