"""Keras 3 on JAX: its applications at small inputs, and its recurrent, attention and separable layers."""

import importlib
import os
from collections.abc import Callable
from typing import Any

from covered.case import Case, images, opened, tokens, vectors

NEEDS = ("keras",)


def open_keras() -> Any:
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    keras.utils.set_random_seed(0)
    return keras


def application(name: str, size: int = 32, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        make = getattr(open_keras().applications, name)
        head = {} if "include_top" in options else {"classes": 10}
        return opened(make(weights=None, input_shape=(size, size, 3), **head, **options), images(size))

    return build


def family(module: str, kind: str, size: int = 32, **options: Any) -> Callable[[], Case]:
    """An architecture at sizes of our own: `keras.applications` gives only those with published weights."""

    def build() -> Case:
        open_keras()
        make = getattr(importlib.import_module(f"keras.src.applications.{module}"), kind)
        return opened(make(weights=None, input_shape=(size, size, 3), classes=10, **options), images(size))

    return build


def residual(version: int) -> Callable[[], Case]:
    def build() -> Case:
        open_keras()
        from keras.src.applications import resnet

        stage = getattr(resnet, f"stack_residual_blocks_v{version}")
        blocks = lambda x: stage(stage(x, 16, 2, stride1=1, name="one"), 24, 2, name="two")
        sizes = dict(use_bias=True, weights=None, input_shape=(32, 32, 3), classes=10, weights_name="none")
        return opened(resnet.ResNet(blocks, version == 2, **sizes), images(32))

    return build


def stack(make: Callable[[Any], list[Any]], *inputs: Any) -> Callable[[], Case]:
    """`make(layers)` gives the layers of a sequential model."""

    def build() -> Case:
        keras = open_keras()
        (first,) = inputs
        model = keras.Sequential([keras.Input(first.shape[1:], dtype=str(first.dtype)), *make(keras.layers)])
        return opened(model, first)

    return build


def transformer() -> Case:
    """The text classification transformer of its examples."""
    keras = open_keras()
    layers = keras.layers
    numbers = keras.Input((6,), dtype="int32")
    x = layers.Embedding(20, 32)(numbers)
    for _ in range(2):
        attended = layers.MultiHeadAttention(num_heads=4, key_dim=8)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
        y = layers.Dense(32)(layers.Dense(48, activation="relu")(x))
        x = layers.LayerNormalization(epsilon=1e-6)(x + y)
    x = layers.Dense(20, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return opened(keras.Model(numbers, layers.Dense(2, activation="softmax")(x)), tokens(6, 20))


def grouped_attention() -> Case:
    keras = open_keras()
    layers = keras.layers
    entry = keras.Input((6, 7))
    x = layers.Dense(32)(entry)
    x = layers.RMSNormalization()(x + layers.GroupQueryAttention(8, 4, 2)(x, x))
    return opened(keras.Model(entry, layers.Dense(3)(x)), vectors(2, 6, 7))


SERIES = vectors(2, 5, 7)
MODELS: dict[str, Callable[[], Case]] = {
    "MobileNet": application("MobileNet", alpha=0.25),
    "MobileNetV2": application("MobileNetV2", alpha=0.35),
    "MobileNetV3Small": application("MobileNetV3Small"),
    "MobileNetV3Large": application("MobileNetV3Large", alpha=0.75, minimalistic=True),
    "EfficientNet": family(
        "efficientnet", "EfficientNet", width_coefficient=0.25, depth_coefficient=0.3, default_size=32
    ),
    "EfficientNetV2": family(
        "efficientnet_v2",
        "EfficientNetV2",
        width_coefficient=0.25,
        depth_coefficient=0.3,
        default_size=32,
        name="efficientnetv2-b0",
    ),
    "ResNet": residual(1),
    "ResNet, version 2": residual(2),
    "DenseNet": family("densenet", "DenseNet", blocks=[2, 2, 2, 2]),
    "Xception": application("Xception", 71),
    "InceptionV3": application("InceptionV3", 75),
    "NASNet": family("nasnet", "NASNet", penultimate_filters=192, num_blocks=1, stem_block_filters=8),
    "ConvNeXt": family("convnext", "ConvNeXt", depths=[1, 1, 1, 1], projection_dims=[16, 24, 32, 48]),
    "VGG16": application("VGG16", include_top=False, pooling="avg"),
    "LSTM": stack(lambda layers: [layers.LSTM(12, return_sequences=True), layers.Dense(3)], SERIES),
    "GRU": stack(lambda layers: [layers.GRU(12, return_sequences=True), layers.GRU(10), layers.Dense(3)], SERIES),
    "SimpleRNN": stack(lambda layers: [layers.SimpleRNN(12), layers.Dense(3)], SERIES),
    "Bidirectional LSTM": stack(lambda layers: [layers.Bidirectional(layers.LSTM(12)), layers.Dense(3)], SERIES),
    "ConvLSTM2D": stack(
        lambda layers: [layers.ConvLSTM2D(12, 3), layers.BatchNormalization(), layers.Conv2D(3, 1)],
        vectors(2, 3, 8, 8, 2),
    ),
    "SeparableConv2D, DepthwiseConv2D": stack(
        lambda layers: [
            layers.Conv2D(12, 3),
            layers.SeparableConv2D(16, 3, depth_multiplier=2),
            layers.PReLU(shared_axes=[1, 2]),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(4),
        ],
        images(12),
    ),
    "GroupNormalization, UnitNormalization, Conv2DTranspose": stack(
        lambda layers: [
            layers.Conv2D(12, 3),
            layers.GroupNormalization(3),
            layers.Activation("swish"),
            layers.Conv2DTranspose(16, 2, 2),
            layers.UnitNormalization(),
            layers.Conv2D(4, 3),
        ],
        images(8),
    ),
    "text transformer of the example": transformer,
    "GroupQueryAttention, RMSNormalization": grouped_attention,
}
