"""Models of torchvision, and the recurrent and attention modules of torch."""

import importlib
from collections.abc import Callable
from typing import Any

from covered.case import Case, images, opened, vectors

NEEDS = ("torch", "torchvision", "torchax")


def model(name: str, size: int = 32, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        import torch
        import torchvision

        torch.manual_seed(0)
        built = getattr(torchvision.models, name)(weights=None, num_classes=10, **options)
        return opened(built, images(size, first=True))

    return build


def direct(path: str, size: int = 32, **options: Any) -> Callable[[], Case]:
    """A class of torchvision.models, where the functions fix the sizes."""

    def build() -> Case:
        import torch

        torch.manual_seed(0)
        module, kind = path.split(".")
        source = importlib.import_module(f"torchvision.models.{module}")
        return opened(getattr(source, kind)(num_classes=10, **options), images(size, first=True))

    return build


def residual(block: str, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        from torchvision.models import resnet

        return direct("resnet.ResNet", block=getattr(resnet, block), layers=[1, 1, 1, 1], **options)()

    return build


def regnet(excitation: float | None) -> Callable[[], Case]:
    def build() -> Case:
        from torchvision.models.regnet import BlockParams

        sizes = BlockParams.from_init_params(depth=4, w_0=16, w_a=16.0, w_m=2.0, group_width=8, se_ratio=excitation)
        return direct("regnet.RegNet", block_params=sizes)()

    return build


def vit() -> Case:
    import torch
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    sizes = dict(image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=48, num_classes=10)
    return opened(VisionTransformer(**sizes), images(32, first=True))


def swin() -> Case:
    import torch
    from torchvision.models import SwinTransformer

    torch.manual_seed(0)
    sizes = dict(patch_size=[4, 4], embed_dim=16, depths=[2, 1], num_heads=[2, 4], window_size=[4, 4], num_classes=10)
    return opened(SwinTransformer(**sizes), images(32, first=True))


def convnext() -> Case:
    import torch
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    torch.manual_seed(0)
    stages = [CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, None, 1)]
    return opened(ConvNeXt(stages, num_classes=10), images(32, first=True))


def vgg() -> Case:
    """Its convolutions; the two hidden layers behind them have 120 million weights."""
    import torch
    from torchvision.models.vgg import make_layers

    torch.manual_seed(0)
    layers = make_layers([16, "M", 24, "M", 32, 32, "M"], batch_norm=True)
    head = [torch.nn.Flatten(), torch.nn.Linear(32 * 16, 24), torch.nn.ReLU(), torch.nn.Linear(24, 10)]
    return opened(torch.nn.Sequential(layers, *head), images(32, first=True))


def series(kind: str, **options: Any) -> Callable[[], Case]:
    """A recurrent module of torch with a head."""

    def build() -> Case:
        import torch

        torch.manual_seed(0)
        both = options.get("bidirectional", False)

        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.core = getattr(torch.nn, kind)(7, 12, batch_first=True, **options)
                self.head = torch.nn.Linear(24 if both else 12, 3)

            def forward(self, x):
                return self.head(self.core(x)[0])

        return opened(Net(), vectors(2, 5, 7))

    return build


def encoder() -> Case:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 48, batch_first=True)
    blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return opened(torch.nn.Sequential(torch.nn.Linear(7, 32), blocks, torch.nn.Linear(32, 3)), vectors(2, 5, 7))


def decoder() -> Case:
    import torch

    torch.manual_seed(0)
    layer = torch.nn.TransformerDecoderLayer(32, 4, 48, batch_first=True, norm_first=True)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(7, 32), torch.nn.Linear(7, 32)
            self.blocks, self.head = torch.nn.TransformerDecoder(layer, 2), torch.nn.Linear(32, 3)

        def forward(self, x, memory):
            return self.head(self.blocks(self.first(x), self.second(memory)))

    return opened(Net(), vectors(2, 5, 7), vectors(2, 6, 7))


MODELS: dict[str, Callable[[], Case]] = {
    "ConvNeXt": convnext,
    "DenseNet": direct("densenet.DenseNet", growth_rate=8, block_config=(2, 2, 2), num_init_features=16),
    "MobileNetV2": model("mobilenet_v2", width_mult=0.25),
    "RegNetX": regnet(None),
    "RegNetY": regnet(0.25),
    "ResNet": residual("BasicBlock"),
    "ResNet with bottlenecks": residual("Bottleneck"),
    "ResNeXt": residual("Bottleneck", groups=32, width_per_group=4),
    "GoogLeNet": model("googlenet", 64, aux_logits=False, init_weights=False),
    "MNASNet": direct("mnasnet.MNASNet", alpha=0.35),
    "MobileNetV3": model("mobilenet_v3_small"),
    "ShuffleNetV2": model("shufflenet_v2_x0_5"),
    "SqueezeNet": model("squeezenet1_1", 64),
    "Swin": swin,
    "VGG with batch norm": vgg,
    "ViT": vit,
    "torch.nn.GRU, two layers": series("GRU", num_layers=2),
    "torch.nn.LSTM, bidirectional": series("LSTM", bidirectional=True),
    "torch.nn.RNN": series("RNN"),
    "torch.nn.TransformerEncoder": encoder,
    "torch.nn.TransformerDecoder": decoder,
}
