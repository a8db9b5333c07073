"""Models of timm at small widths."""

from collections.abc import Callable
from typing import Any

from covered.case import Case, images, opened

NEEDS = ("timm", "torch", "torchvision", "torchax")


def model(name: str, size: int = 32, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        import timm
        import torch

        torch.manual_seed(0)
        return opened(timm.create_model(name, num_classes=10, **options), images(size, first=True))

    return build


def direct(
    path: str, size: int, *, layers: dict[str, str | list[str]] | None = None, **options: Any
) -> Callable[[], Case]:
    """A class of timm.models where `create_model` fixes the sizes; `layers` names classes beside it by argument."""

    def build() -> Case:
        import importlib

        import torch

        torch.manual_seed(0)
        module, kind = path.split(".")
        source = importlib.import_module(f"timm.models.{module}")
        found = {
            key: [getattr(source, one) for one in names] if isinstance(names, list) else getattr(source, names)
            for key, names in (layers or {}).items()
        }
        return opened(getattr(source, kind)(num_classes=10, **found, **options), images(size, first=True))

    return build


def mvit() -> Case:
    import torch
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    torch.manual_seed(0)
    sizes = MultiScaleVitCfg(depths=(1, 1, 1, 1), embed_dim=(16, 32, 48, 64), num_heads=(1, 2, 3, 4))
    return opened(MultiScaleVit(sizes, img_size=64, num_classes=10), images(64, first=True))


PLAIN = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)
MIXER = dict(img_size=32, patch_size=8, embed_dim=32, num_blocks=2, mlp_ratio=2)
NARROW = dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
FOUR = dict(img_size=64, depths=(1, 1, 1, 1))
MODELS: dict[str, Callable[[], Case]] = {
    "CaiT": model("cait_xxs24_224", **PLAIN),
    "CoAtNet": model("coatnet_nano_rw_224", 64, **FOUR, embed_dim=(32, 32, 32, 32)),
    "ConvMixer": direct("convmixer.ConvMixer", 32, dim=32, depth=2, kernel_size=3, patch_size=4),
    "ConvNeXt": model("convnext_atto", 64, **NARROW),
    "ConvNeXt V2": model("convnextv2_atto", 64, **NARROW),
    "DeiT, distilled": model("deit_tiny_distilled_patch16_224", **PLAIN),
    "DenseNet": model("densenet121", growth_rate=4, block_config=(2, 2, 2, 2)),
    "DLA": model("dla46_c"),
    "EfficientNet": model("test_efficientnet"),
    "EVA-02": model("eva02_tiny_patch14_224", **PLAIN),
    "FocalNet": direct("focalnet.FocalNet", 64, embed_dim=16, depths=(1, 1, 1, 1)),
    "GhostNet": model("ghostnet_050"),
    "gMLP": direct(
        "mlp_mixer.MlpMixer", 32, layers=dict(block_layer="SpatialGatingBlock", mlp_layer="GatedMlp"), **MIXER
    ),
    "EfficientNet with filter response norm": model("test_efficientnet_evos"),
    "EfficientNet with group norm": model("test_efficientnet_gn"),
    "EfficientNet with layer norm": model("test_efficientnet_ln"),
    "HardCoRe-NAS": model("hardcorenas_a"),
    "HRNet": model("hrnet_w18_small"),
    "LeViT": model("levit_128s", 64, img_size=64),
    "MaxViT": model("maxvit_rmlp_nano_rw_256", 64, **FOUR, embed_dim=(32, 32, 32, 32)),
    "MetaFormer": direct(
        "metaformer.MetaFormer", 64, layers=dict(
            token_mixers=["SepConv", "SepConv", "Attention", "Attention"],
            norm_layers=["LayerNorm2dNoBias", "LayerNorm2dNoBias", "LayerNormNoBias", "LayerNormNoBias"],
        ),
        depths=(1, 1, 1, 1), dims=(32, 32, 32, 32),
    ),
    "Mixer": direct("mlp_mixer.MlpMixer", 32, **MIXER | dict(mlp_ratio=(0.5, 4.0))),
    "MobileNetV4": model("mobilenetv4_conv_small"),
    "MobileViT": model("mobilevit_xxs", 64),
    "MViTv2": mvit,
    "PoolFormer": direct("metaformer.MetaFormer", 64, layers=dict(token_mixers="Pooling"), **NARROW),
    "PVTv2": model("pvt_v2_b0", 64, depths=(1, 1, 1, 1)),
    "RegNetY": model("regnety_002"),
    "ResMLP": direct("mlp_mixer.MlpMixer", 32, layers=dict(block_layer="ResBlock", norm_layer="Affine"), **MIXER),
    "ResNeSt": model("resnest14d"),
    "ResNeXt": model("resnext26ts"),
    "RexNet": model("rexnet_100"),
    "SigLIP": model("vit_base_patch16_siglip_224", **PLAIN),
    "Swin": model("swin_tiny_patch4_window7_224", 64, img_size=64, window_size=4, embed_dim=16, depths=(2, 1, 1, 1),
                  num_heads=(2, 2, 4, 4)),
    "Swin V2": model("swinv2_tiny_window8_256", 64, img_size=64, window_size=4, embed_dim=16, depths=(2, 1, 1, 1),
                     num_heads=(2, 2, 4, 4)),
    "TinyViT": model("tiny_vit_5m_224", 64, depths=(1, 1, 1, 1)),
    "Twins": model("twins_pcpvt_small", 64, img_size=64, depths=(1, 1, 1, 1)),
    "BYOB": model("test_byobnet"),
    "MambaOut": model("test_mambaout", 64),
    "NFNet": model("test_nfnet"),
    "ResNet": model("test_resnet"),
    "ViT with relative positions": model("test_vit_relpos", 64, img_size=64),
    "ViT, registers, class token": model("test_vit3", 64, img_size=64),
    "ViT": model("vit_tiny_patch16_224", **PLAIN),
    "XCiT": model("xcit_nano_12_p16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4),
}  # fmt: skip
