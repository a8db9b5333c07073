"""Networks that get aligned in experiments and tests, one kind a file; a new file here is found by itself."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from dwalign.networks.attention import Attention
from dwalign.networks.cnn import CNN, cnn
from dwalign.networks.densenet import DenseNet, densenet
from dwalign.networks.gnn import GNN, gnn
from dwalign.networks.mixer import Mixer, mixer
from dwalign.networks.mlp import MLP, mlp
from dwalign.networks.network import from_module
from dwalign.networks.recurrent import FusedLSTMCell, Recurrent, recurrent
from dwalign.networks.resnet import ResNet, resnet, resnet20, resnet50
from dwalign.networks.siren import Siren, fix_signs, siren
from dwalign.networks.transformer import Block, BlockOptions, Transformer, transformer
from dwalign.networks.unet import UNet, unet
from dwalign.networks.vgg import VGG, vgg
from dwalign.networks.vit import ViT, vit
from dwalign.program import Network

_modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
KINDS: dict[str, Callable[..., Network]] = {
    name: make
    for module in _modules
    for name, make in sorted(vars(module).items())
    if inspect.isfunction(make)
    and make.__module__ == module.__name__
    and inspect.signature(make).return_annotation is Network
    and make is not from_module
}
"""Every function of a file here that makes a network, by its name."""


def build(config: dict[str, Any]) -> Network:
    """The network of a `Network.config`."""
    if not isinstance(config, Mapping):
        raise ValueError(f"network: config must be a Network.config, a mapping, got {type(config).__name__}")
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"network: kind must be one of {sorted(KINDS)}, got {kind!r}")
    return KINDS[kind](**options)


__all__ = [
    "Attention",
    "Block",
    "BlockOptions",
    "CNN",
    "DenseNet",
    "FusedLSTMCell",
    "GNN",
    "KINDS",
    "MLP",
    "Mixer",
    "Network",
    "Recurrent",
    "ResNet",
    "Siren",
    "Transformer",
    "UNet",
    "VGG",
    "ViT",
    "build",
    "cnn",
    "densenet",
    "fix_signs",
    "from_module",
    "gnn",
    "mixer",
    "mlp",
    "recurrent",
    "resnet",
    "resnet20",
    "resnet50",
    "siren",
    "transformer",
    "unet",
    "vgg",
    "vit",
]
