"""Aligners from a few plain options, and back from a checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.checkpoints import CheckpointError, Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.encoders import DWSEncoder, GraphEncoder, ProbeEncoder
from dwalign.networks import Network, build, with_batch_statistics
from dwalign.symmetry import SpecError

PyTree = Any
ENCODERS = ("dws", "graph", "probe")


class AlignerConfig(NamedTuple):
    """The aligner's shape.

    Attributes:
      encoder: one of `ENCODERS`.
      channels: width of the encoder; None is the encoder's own default.
      depth: rounds of messages (graph, and the correction of probe) or hidden layers (dws); None as for channels.
      features: of a unit (graph, dws); the probe encoder has one for each response.
      updates: unrolled score updates.
      descent: unrolled steps of midpoint refinement on learned inputs.
      outputs: "logits" of classifiers, or "values"; descent compares the answers of networks.
      probes: inputs of the probe encoder, and of descent.
      shared: groups and arrays of one role (`symmetry.group_roles`) share parameters, so that an aligner fits networks
        of other widths and depths (graph and probe).
    """

    encoder: str = "probe"
    channels: int | None = None
    depth: int | None = None
    features: int = 128
    updates: int = 3
    descent: int = 0
    outputs: str = "logits"
    probes: int = 128
    shared: bool = False


def make_model(network: Network, config: AlignerConfig, inputs: jax.Array) -> DeepAlign:
    """The model for networks like `network`; `inputs` are training images, where probes start."""
    spec, c = network.spec, config
    probes = jnp.asarray(inputs[: c.probes])
    options = lambda **chosen: {name: value for name, value in chosen.items() if value is not None}
    if c.encoder == "graph":
        own = options(channels=c.channels, rounds=c.depth)
        encoder = GraphEncoder(spec, features=c.features, shared=c.shared, **own)
    elif c.encoder == "dws":
        if c.shared:
            raise ValueError("encoder: parts of dws are made for one network and cannot be shared; take graph or probe")
        encoder = DWSEncoder(spec, features=c.features, **options(channels=c.channels, depth=c.depth))
    elif c.encoder == "probe":
        own = options(features=c.channels, rounds=c.depth)
        encoder = ProbeEncoder(spec, capture=network.capture, inputs=probes, shared=c.shared, **own)
    else:
        raise ValueError(f"encoder: must be one of {ENCODERS}, got {c.encoder!r}")
    descent = dict(descent=c.descent, outputs=c.outputs, function=with_batch_statistics(network), inputs=probes)
    return DeepAlign(spec, encoder, updates=c.updates, shared=c.shared, **(descent if c.descent else {}))


def describe(network: Network, config: AlignerConfig, inputs: jax.Array) -> dict[str, Any]:
    """The JSON values from which `load_aligner` builds the model again; `inputs` as for `make_model`."""
    probes = jnp.asarray(inputs[: config.probes])
    about: dict[str, Any] = {"count": len(probes), "dtype": str(probes.dtype)}
    if (config.encoder == "probe" or config.descent) and not jnp.issubdtype(probes.dtype, jnp.floating):
        about["values"] = probes.tolist()  # tokens are no parameters, which would be in the checkpoint
    return {
        "network": network.config,
        "aligner": config._asdict(),
        "input_shape": list(inputs.shape[1:]),
        "probes": about,
    }


def load_aligner(folder: str | Path, *, network: Network | None = None) -> Aligner:
    """The aligner in a checkpoint folder, such as `runs/mlp-digits/seed-0/checkpoints/best`.

    Args:
      folder: of the checkpoint.
      network: align these networks instead of those that the aligner was trained for; see `fit_aligner`.

    Raises:
      CheckpointError: no checkpoint, a damaged one, or one of something else.
      SpecError: the parameters do not fit `network`.
    """
    if not Path(folder).is_dir():
        found = "is a file" if Path(folder).exists() else "does not exist"
        raise CheckpointError(f"{folder} must be a folder that holds a checkpoint; it {found}")
    checkpoints = Checkpoints(folder)
    info = checkpoints.info()
    if not {"network", "aligner", "input_shape"} <= set(info):
        raise CheckpointError(
            f"{folder} must hold an aligner of dwalign, found a checkpoint that describes {sorted(info)}"
        )
    try:
        home, config = build(info["network"]), AlignerConfig(**info["aligner"])
        inputs = _probes(config, info)
        model = make_model(home, config, inputs)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} must hold an aligner that this version of dwalign can build, found network {info['network']} "
            f"and aligner {info['aligner']} ({error}); load it with the version that saved it, or train again"
        ) from error
    variables = checkpoints.restore(_variables(model, home))
    if network is None:
        return Aligner(model, variables)
    return fit_aligner(Aligner(make_model(network, config, inputs), variables), network)


def fit_aligner(aligner: Aligner, network: Network) -> Aligner:
    """An aligner whose model was made for `network` and whose variables come from training on other networks.

    Of the graph encoder the parameters depend on no width; with `AlignerConfig.shared` they fit every network whose
    groups and arrays play roles that some network of the training had. Variables that `network` does not need are left
    out.

    Raises:
      SpecError: names what is missing or of another shape.
    """
    flat = lambda tree: {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    needed, there = flat(_variables(aligner.model, network)), flat(aligner.variables)
    if wrong := [name for name, leaf in needed.items() if name not in there or there[name].shape != leaf.shape]:
        found = f"shape {there[wrong[0]].shape}" if wrong[0] in there else "nothing of this name"
        raise SpecError(
            f"fit_aligner: this network needs {wrong[0]} of shape {needed[wrong[0]].shape} (and {len(wrong) - 1} other "
            f"arrays), the aligner has {found}; train with shared=True on networks whose layers play the same roles"
        )
    kept = jax.tree_util.tree_map_with_path(
        lambda path, _: there[jax.tree_util.keystr(path)], _variables(aligner.model, network)
    )
    return Aligner(aligner.model, kept)


def _probes(config: AlignerConfig, info: dict[str, Any]) -> jax.Array:
    """Inputs of which `make_model` takes as many as in training; learned ones come with the variables."""
    # checkpoints from before this was recorded have all probes, of floats
    about = {"count": config.probes, "dtype": "float32"} | info.get("probes", {})
    if "values" in about:
        return jnp.asarray(about["values"], about["dtype"]).reshape(about["count"], *info["input_shape"])
    return jnp.zeros((about["count"], *info["input_shape"]), about["dtype"])


def _variables(model: DeepAlign, network: Network) -> PyTree:
    """The shapes of the model's variables."""
    example = jax.eval_shape(network.init, jax.random.key(0))
    return jax.eval_shape(model.init, jax.random.key(0), example, example)
