"""Modules and networks of Haiku, transformed with their state."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from covered.case import Case, images, opened, tokens, vectors

NEEDS = ("dm-haiku",)


def model(forward: Callable[..., Any], *inputs: Any) -> Callable[[], Case]:
    """`forward(hk, training, *inputs)` is the function that Haiku transforms; its averages appear only in training."""

    def build() -> Case:
        import haiku as hk

        train, test = (hk.transform_with_state(functools.partial(forward, hk, training)) for training in (True, False))
        return opened(test, *inputs, params=jax.eval_shape(train.init, jax.random.key(0), *inputs))

    return build


def unrolled(make: Callable[[Any], Any]) -> Callable[[], Case]:
    def forward(hk, training, series):
        core = make(hk)
        outputs, _ = hk.dynamic_unroll(core, series, core.initial_state(len(series)), time_major=False)
        return hk.Linear(3)(outputs)

    return model(forward, vectors(2, 5, 7))


def resnet(**options: Any) -> Callable[[], Case]:
    """One block a stage, of a quarter of the channels."""

    def forward(hk, training, pictures):
        return hk.nets.ResNet((1, 1, 1, 1), 10, **options)(pictures, is_training=training)

    return model(forward, images(32))


def mobilenet(hk: Any, training: bool, pictures: Any) -> Any:
    strides, channels = (1, 2, 1, 2), (16, 24, 24, 32)
    return hk.nets.MobileNetV1(strides, channels, 10)(pictures, is_training=training)


def vq_vae(hk: Any, training: bool, pictures: Any) -> Any:
    """The autoencoder of its VQ-VAE example, at small widths."""
    encode = hk.Sequential([hk.Conv2D(16, 4, 2), jax.nn.relu, hk.Conv2D(12, 4, 2)])
    decode = hk.Sequential([hk.Conv2DTranspose(16, 4, 2), jax.nn.relu, hk.Conv2DTranspose(3, 4, 2)])
    quantised = hk.nets.VectorQuantizer(embedding_dim=12, num_embeddings=24, commitment_cost=0.25)(
        encode(pictures), is_training=training
    )
    return decode(quantised["quantize"])


def vq_vae_ema(hk: Any, training: bool, pictures: Any) -> Any:
    quantiser = hk.nets.VectorQuantizerEMA(embedding_dim=12, num_embeddings=24, commitment_cost=0.25, decay=0.99)
    quantised = quantiser(hk.Conv2D(12, 4, 2)(pictures), is_training=training)
    return hk.Conv2DTranspose(3, 4, 2)(quantised["quantize"])


def attention(hk: Any, training: bool, numbers: Any) -> Any:
    init = hk.initializers.VarianceScaling(1.0)
    norm = lambda: hk.LayerNorm(-1, True, True)
    x = hk.Embed(20, 32)(numbers) + hk.get_parameter("positions", (6, 32), init=hk.initializers.RandomNormal())
    for _ in range(2):
        y = norm()(x)
        x = x + hk.MultiHeadAttention(4, 8, w_init=init)(y, y, y)
        x = x + hk.Sequential([hk.Linear(48), jax.nn.gelu, hk.Linear(32)])(norm()(x))
    return hk.Linear(20)(norm()(x))


def averaged(hk: Any, training: bool, pictures: Any) -> Any:
    x = hk.SeparableDepthwiseConv2D(2, 3)(hk.Conv2D(12, 3)(pictures))
    x = hk.BatchNorm(True, True, 0.9)(x, is_training=training)
    return hk.Linear(4)(jax.nn.relu(x).mean((1, 2)))


def grouped(hk: Any, training: bool, pictures: Any) -> Any:
    x = jax.nn.relu(hk.GroupNorm(3)(hk.Conv2D(12, 3)(pictures)))
    x = jax.nn.relu(hk.InstanceNorm(True, True)(hk.DepthwiseConv2D(2, 3)(x)))
    return hk.Linear(4)(jnp.reshape(hk.MaxPool(2, 2, "SAME")(x), (len(x), -1)))


def deep(hk: Any) -> Any:
    return hk.DeepRNN([hk.LSTM(12), jax.nn.relu, hk.GRU(10)])


MODELS: dict[str, Callable[[], Case]] = {
    "MLP": model(lambda hk, training, x: hk.nets.MLP([16, 12, 3])(x), vectors(4, 7)),
    "ResNet": resnet(bottleneck=False, channels_per_group=(16, 32, 48, 64)),
    "ResNet, version 2, with bottlenecks": resnet(resnet_v2=True, channels_per_group=(32, 64, 96, 128)),
    "MobileNetV1": model(mobilenet, images(32)),
    "VQ-VAE": model(vq_vae, images(16)),
    "VQ-VAE with averages": model(vq_vae_ema, images(16)),
    "LSTM": unrolled(lambda hk: hk.LSTM(12)),
    "GRU": unrolled(lambda hk: hk.GRU(12)),
    "VanillaRNN": unrolled(lambda hk: hk.VanillaRNN(12)),
    "DeepRNN": unrolled(deep),
    "deep_rnn_with_skip_connections": unrolled(
        lambda hk: hk.deep_rnn_with_skip_connections([hk.LSTM(12), hk.LSTM(12)])
    ),
    "Conv2DLSTM": model(
        lambda hk, training, x: hk.Conv2D(3, 1)(
            hk.dynamic_unroll(core := hk.Conv2DLSTM((8, 8), 12, 3), x, core.initial_state(len(x)), time_major=False)[0][
                :, -1
            ]
        ),
        vectors(2, 3, 8, 8, 2),
    ),
    "transformer of MultiHeadAttention": model(attention, tokens(6, 20)),
    "SeparableDepthwiseConv2D, BatchNorm": model(averaged, images(8)),
    "GroupNorm, DepthwiseConv2D, InstanceNorm": model(grouped, images(8)),
}
