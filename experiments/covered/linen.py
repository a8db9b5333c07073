"""Modules of flax.linen that carry units in more than the plain way."""

from collections.abc import Callable
from typing import Any

import jax

from covered.case import Case, images, opened, vectors

NEEDS = ("flax",)


def module(make: Callable[[], Any], *inputs: Any) -> Case:
    """A linen module, applied to inputs."""
    return opened(make(), *inputs, key=jax.random.key(0))


def recurrent(cell: str, **options: Any) -> Callable[[], Case]:
    def make():
        import flax.linen as nn

        return module(lambda: nn.Sequential([nn.RNN(getattr(nn, cell)(12, **options)), nn.Dense(3)]), vectors(2, 5, 7))

    return make


def bidirectional() -> Case:
    import flax.linen as nn

    both = lambda: nn.Bidirectional(nn.RNN(nn.GRUCell(12)), nn.RNN(nn.GRUCell(12)))
    return module(lambda: nn.Sequential([both(), nn.Dense(3)]), vectors(2, 5, 7))


def convolutional_lstm() -> Case:
    import flax.linen as nn

    cell = lambda: nn.RNN(nn.ConvLSTMCell(12, kernel_size=(3, 3)))
    return module(lambda: nn.Sequential([cell(), nn.Conv(4, (1, 1))]), vectors(2, 3, 8, 8, 2))


def attention() -> Case:
    import flax.linen as nn

    def make():
        return nn.Sequential([nn.Dense(24), nn.LayerNorm(), nn.MultiHeadDotProductAttention(4), nn.Dense(3)])

    return module(make, vectors(2, 5, 7))


def convolutional() -> Case:
    import flax.linen as nn

    def make():
        return nn.Sequential(
            [
                nn.Conv(12, (3, 3)),
                nn.GroupNorm(3),
                nn.relu,
                nn.Conv(24, (3, 3), feature_group_count=12),
                nn.BatchNorm(use_running_average=True),
                nn.relu,
                nn.ConvTranspose(12, (2, 2), (2, 2)),
                lambda x: nn.max_pool(x, (2, 2), (2, 2)),
                lambda x: x.reshape(len(x), -1),
                nn.Dense(16),
                nn.PReLU(),
                nn.Dense(4),
            ]
        )

    return module(make, images(8))


def local() -> Case:
    import flax.linen as nn

    layers = lambda: nn.Sequential([nn.ConvLocal(12, (3, 3)), nn.relu, nn.Conv(4, (3, 3))])
    return module(layers, images(6))


def normalised() -> Case:
    import flax.linen as nn

    def make():
        layers = [nn.WeightNorm(nn.Dense(16)), nn.relu, nn.RMSNorm(), nn.Dense(12), nn.InstanceNorm(), nn.Dense(3)]
        return nn.Sequential(layers)

    return module(make, vectors(2, 5, 7))


def embedded() -> Case:
    import flax.linen as nn

    def make():
        return nn.Sequential(
            [
                nn.Dense(16),
                nn.Dropout(0.5, deterministic=True),
                nn.Einsum((16, 4, 5), "abc,cde->abde"),
                nn.relu,
                nn.DenseGeneral(3, axis=(-2, -1)),
            ]
        )

    return module(make, vectors(2, 5, 7))


MODELS: dict[str, Callable[[], Case]] = {
    "RNN of LSTMCell": recurrent("LSTMCell"),
    "RNN of OptimizedLSTMCell": recurrent("OptimizedLSTMCell"),
    "RNN of GRUCell": recurrent("GRUCell"),
    "RNN of MGUCell": recurrent("MGUCell"),
    "RNN of SimpleCell": recurrent("SimpleCell", residual=True),
    "Bidirectional GRU": bidirectional,
    "ConvLSTMCell": convolutional_lstm,
    "MultiHeadDotProductAttention": attention,
    "Conv, GroupNorm, depthwise, BatchNorm, ConvTranspose": convolutional,
    "ConvLocal": local,
    "WeightNorm, RMSNorm, InstanceNorm": normalised,
    "Einsum, DenseGeneral": embedded,
}
