"""Aligners from a few plain options, and back from a checkpoint."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.checkpoints import CheckpointError, Checkpoints
from dwalign.deepalign.model import DeepAlign
from dwalign.deepalign.settings import AlignerConfig
from dwalign.deepalign.shipped import SHIPPED, read_card, read_shipped
from dwalign.encoders import ENCODERS, EncoderShape, noise
from dwalign.matching import matched
from dwalign.networks import build
from dwalign.program import Network, check_inputs, together
from dwalign.symmetry import SpecError

PyTree = Any


def make_model(network: Network, config: AlignerConfig, inputs: PyTree = None) -> DeepAlign:
    """The model for networks like `network`; `inputs` are training inputs, where probes start.

    It is made for networks in their gauge (`dwalign.matching.gauged`), and for what that leaves open. With the encoder
    noise inputs may be left out: pseudo-random ones stand in for them.

    Raises:
      ValueError: an encoder that does not exist, or cannot be what is asked for; no inputs, and none can be drawn.
    """
    c, network = config, matched(network)
    if c.encoder not in ENCODERS:
        raise ValueError(f"encoder: must be one of {sorted(ENCODERS)}, got {c.encoder!r}")
    anywhere = c.encoder == "noise"
    if inputs is None and not anywhere:
        raise ValueError(f"make_model: the encoder {c.encoder!r} must get training inputs [m, ...], found none")
    probes = jnp.asarray(noise(network.example, c.probes) if inputs is None else inputs[: c.probes])
    encoder = ENCODERS[c.encoder](network, EncoderShape(c.channels, c.depth, c.features, c.shared), probes)
    settings: dict[str, Any] = dict(updates=c.updates, shared=c.shared, anywhere=anywhere)
    if c.descent:
        # noise is far from data, unlike inputs that somebody gives
        dreams = inputs is None and c.outputs == "logits"
        settings |= dict(descent=c.descent, images=c.images, sharpen=c.sharpen, outputs=c.outputs, dreams=dreams)
        settings |= dict(function=network.respond, inputs=probes)
    return DeepAlign(network.spec, encoder, **settings)


def describe(network: Network, config: AlignerConfig, inputs: PyTree) -> dict[str, Any]:
    """The JSON values from which `load_aligner` builds the model again; `inputs` as for `make_model`."""
    probes = jnp.asarray(inputs[: config.probes])
    about: dict[str, Any] = {"count": len(probes), "dtype": str(probes.dtype)}
    if (config.encoder == "probe" or config.descent) and not jnp.issubdtype(probes.dtype, jnp.floating):
        about["values"] = probes.tolist()  # tokens are no parameters, which would be in the checkpoint
    return {
        "network": dict(network.config),
        "aligner": dataclasses.asdict(config),
        "input_shape": list(inputs.shape[1:]),
        "probes": about,
    }


def load_aligner(folder: str | Path, *, network: Network | None = None, inputs: PyTree = None) -> Aligner:
    """The aligner in a checkpoint folder, such as `runs/mlp-digits/seed-0/checkpoints/best`, or the one that ships.

    Args:
      folder: of the checkpoint; or the name of an aligner that comes with the package. "any" fits every network whose
        inputs are real numbers and whose outputs are logits; "mnist" MLPs with ReLU of any width and
        depth that learned MNIST, flat and scaled to [-1, 1].
      network: what is aligned: needed where the aligner was trained for a network that `dwalign.networks.build` does
        not know, or to align others than those that it was trained for; see `fit_aligner`. Those that ship
        always need it.
      inputs: `[m, ...]` that the networks are for, of which "any" takes the first few in place of noise: no labels are
        asked for. Others learned what they look at, and are given none.

    Raises:
      CheckpointError: no checkpoint, a damaged one, or one of something else; or the network is needed.
      SpecError: the parameters do not fit `network`.
      ValueError: inputs for an aligner that learned its own.
    """
    if folder in SHIPPED:
        return _shipped(str(folder), network, inputs)
    if not Path(folder).is_dir():
        found = "is a file" if Path(folder).exists() else "does not exist"
        raise CheckpointError(
            f"{folder} must be a folder that holds a checkpoint, or one of {sorted(SHIPPED)}, which ship; it {found}"
        )
    checkpoints = Checkpoints(folder, writable=False)
    info = checkpoints.info()
    if not {"network", "aligner", "input_shape"} <= set(info):
        raise CheckpointError(
            f"{folder} must hold an aligner of dwalign, found a checkpoint that describes {sorted(info)}"
        )
    if network is None and not info["network"]:
        raise CheckpointError(
            f"{folder}: the aligner was trained for a network that this package cannot build; pass network=, the one "
            "that it was trained for or one like it"
        )
    try:
        config = AlignerConfig(**info["aligner"])
        home = network or build(info["network"])
        model = make_model(home, config, None if config.encoder == "noise" else _probes(config, info))
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} must hold an aligner that this version of dwalign can build, found network {info['network']} "
            f"and aligner {info['aligner']} ({error}); load it with the version that saved it, or train again"
        ) from error
    aligner = Aligner(model, checkpoints.restore())
    try:
        return fit_aligner(aligner, home)
    except SpecError as error:
        if network is not None:
            raise
        raise CheckpointError(f"{folder}: the checkpoint must be one of this model, but {error}") from error


def _shipped(name: str, network: Network | None, inputs: PyTree) -> Aligner:
    if network is None:
        raise CheckpointError(f"{name!r} fits networks of many kinds: pass network=, the one that it is to align")
    if not jax.tree_util.treedef_is_leaf(held := jax.tree.structure(network.example)):
        raise SpecError(f"load_aligner: {name!r} is for networks whose inputs are one array, found {held}")
    config, variables = read_shipped(name, blind=inputs is None)
    learned = variables["params"].get("inputs")
    if learned is not None and inputs is not None:
        raise ValueError(f"load_aligner: {name!r} learned the inputs that it looks at, found others; leave out inputs=")
    if inputs is not None:
        inputs = check_inputs("load_aligner", network.apply, network.params, inputs)
    if learned is not None:
        found = network.example.shape[1:]
        if math.prod(found) != math.prod(learned.shape[1:]):
            raise SpecError(f"load_aligner: {name!r} is for networks with inputs {learned.shape[1:]}, found {found}")
        # pictures may be flattened by the network
        learned = learned.reshape(-1, *found)
        variables = variables | {"params": variables["params"] | {"inputs": learned}}
    try:
        model = make_model(network, config, inputs if learned is None else learned)
        return fit_aligner(Aligner(model, variables), network)
    except SpecError as error:
        raise SpecError(f"load_aligner: {name!r} is for {read_card(name)['limits']}; {error}") from error


def fit_aligner(aligner: Aligner, network: Network) -> Aligner:
    """An aligner whose model was made for `network` and whose variables come from training on other networks.

    Of the graph encoder the parameters depend on no width; with `AlignerConfig.shared` they fit every network whose
    groups and arrays play roles that some network of the training had. Variables that `network` does not need are left
    out.

    Raises:
      SpecError: names what is missing or of another shape.
    """
    flat = lambda tree: {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    shapes = variables_of(aligner.model, network)
    needed, there = flat(shapes), flat(aligner.variables)
    if wrong := [name for name, leaf in needed.items() if name not in there or there[name].shape != leaf.shape]:
        found = f"shape {there[wrong[0]].shape}" if wrong[0] in there else "nothing of this name"
        raise SpecError(
            f"fit_aligner: this network needs {wrong[0]} of shape {needed[wrong[0]].shape} (and {len(wrong) - 1} other "
            f"arrays), the aligner has {found}; train with shared=True on networks whose layers play the same roles "
            "(dwalign.symmetry.group_roles)"
        )
    kept = jax.tree_util.tree_map_with_path(lambda path, _: there[jax.tree_util.keystr(path)], shapes)
    return Aligner(aligner.model, kept)


def _probes(config: AlignerConfig, info: Mapping[str, Any]) -> jax.Array:
    """Inputs of which `make_model` takes as many as in training; learned ones come with the variables."""
    # checkpoints from before this was recorded have all probes, of floats
    about = {"count": config.probes, "dtype": "float32"} | info.get("probes", {})
    if "values" in about:
        return jnp.asarray(about["values"], about["dtype"]).reshape(about["count"], *info["input_shape"])
    return jnp.zeros((about["count"], *info["input_shape"]), about["dtype"])


def init_variables(model: DeepAlign, params: PyTree, key: jax.Array) -> PyTree:
    """The variables that a model starts with; `params` are any network that it is for."""
    return jax.jit(together(_init(model)))(key, params)


def variables_of(model: DeepAlign, network: Network) -> PyTree:
    """The shapes of the model's variables."""
    return jax.eval_shape(_init(model), jax.random.key(0), network.params)


def _init(model: DeepAlign) -> Callable:
    # all that is learned belongs to the encoder or is there from the setup; what descends need not be traced for it
    return functools.partial(model.init, method="encode")
