from collections.abc import Callable
from typing import Any

from dwalign.networks.attention import Attention
from dwalign.networks.cnn import CNN, cnn
from dwalign.networks.densenet import DenseNet, densenet
from dwalign.networks.gnn import GNN, gnn
from dwalign.networks.mixer import Mixer, mixer
from dwalign.networks.mlp import MLP, mlp
from dwalign.networks.network import Network, from_module, reset_statistics, with_batch_statistics
from dwalign.networks.recurrent import FusedLSTMCell, Recurrent, recurrent
from dwalign.networks.resnet import ResNet, resnet, resnet20, resnet50
from dwalign.networks.siren import Siren, fix_signs, siren
from dwalign.networks.transformer import Block, BlockOptions, Transformer, transformer
from dwalign.networks.unet import UNet, unet
from dwalign.networks.vgg import VGG, vgg
from dwalign.networks.vit import ViT, vit

KINDS: dict[str, Callable[..., Network]] = {
    "cnn": cnn,
    "densenet": densenet,
    "gnn": gnn,
    "mixer": mixer,
    "mlp": mlp,
    "recurrent": recurrent,
    "resnet": resnet,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "siren": siren,
    "transformer": transformer,
    "unet": unet,
    "vgg": vgg,
    "vit": vit,
}


def build(config: dict[str, Any]) -> Network:
    """The network of a `Network.config`."""
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
    "reset_statistics",
    "resnet",
    "resnet20",
    "resnet50",
    "siren",
    "transformer",
    "unet",
    "vgg",
    "vit",
    "with_batch_statistics",
]
