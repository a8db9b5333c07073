"""Modules of flax.nnx."""

from collections.abc import Callable
from typing import Any

from covered.case import Case, images, opened, vectors

NEEDS = ("flax",)


def module(make: Callable[[Any, Any], Any], *inputs: Any) -> Callable[[], Case]:
    """`make(nnx, rngs)` gives the module."""

    def build() -> Case:
        from flax import nnx

        return opened(make(nnx, nnx.Rngs(0)), *inputs)

    return build


def mlp(nnx: Any, rngs: Any) -> Any:
    return nnx.Sequential(
        nnx.Linear(7, 16, rngs=rngs),
        nnx.BatchNorm(16, rngs=rngs),
        nnx.relu,
        nnx.Dropout(0.5, rngs=rngs),
        nnx.Linear(16, 12, rngs=rngs),
        nnx.LayerNorm(12, rngs=rngs),
        nnx.gelu,
        nnx.Linear(12, 3, rngs=rngs),
    )


def cnn(nnx: Any, rngs: Any) -> Any:
    return nnx.Sequential(
        nnx.Conv(3, 12, (3, 3), rngs=rngs), nnx.GroupNorm(12, 3, rngs=rngs), nnx.relu,
        nnx.Conv(12, 24, (3, 3), feature_group_count=12, rngs=rngs), nnx.BatchNorm(24, rngs=rngs), nnx.relu,
        nnx.ConvTranspose(24, 12, (2, 2), (2, 2), rngs=rngs), nnx.InstanceNorm(12, rngs=rngs),
        lambda x: nnx.avg_pool(x, (2, 2), (2, 2)), lambda x: x.reshape(len(x), -1), nnx.Linear(12 * 64, 4, rngs=rngs),
    )  # fmt: skip


def attention(nnx: Any, rngs: Any) -> Any:
    attend = nnx.MultiHeadAttention(4, 24, decode=False, rngs=rngs)
    return nnx.Sequential(
        nnx.Linear(7, 24, rngs=rngs), attend, nnx.RMSNorm(24, rngs=rngs), nnx.Linear(24, 3, rngs=rngs)
    )


def recurrent(cell: str) -> Callable[[Any, Any], Any]:
    def make(nnx, rngs):
        rnn = nnx.RNN(getattr(nnx, cell)(7, 12, rngs=rngs), rngs=rngs)
        return nnx.Sequential(rnn, nnx.Linear(12, 3, rngs=rngs))

    return make


def bidirectional(nnx: Any, rngs: Any) -> Any:
    one = lambda: nnx.RNN(nnx.GRUCell(7, 12, rngs=rngs), rngs=rngs)
    return nnx.Sequential(nnx.Bidirectional(one(), one(), rngs=rngs), nnx.Linear(24, 3, rngs=rngs))


def adapted(nnx: Any, rngs: Any) -> Any:
    return nnx.Sequential(
        nnx.LoRALinear(7, 16, lora_rank=9, rngs=rngs), nnx.PReLU(),
        nnx.Einsum("bd,dhk->bhk", (16, 4, 10), (4, 10), rngs=rngs),
        nnx.silu, nnx.LinearGeneral((4, 10), 3, axis=(-2, -1), rngs=rngs),
    )  # fmt: skip


SERIES = vectors(2, 5, 7)
MODELS: dict[str, Callable[[], Case]] = {
    "Linear, BatchNorm, LayerNorm": module(mlp, vectors(4, 7)),
    "Conv, GroupNorm, ConvTranspose, InstanceNorm": module(cnn, images(8)),
    "MultiHeadAttention, RMSNorm": module(attention, SERIES),
    "RNN of LSTMCell": module(recurrent("LSTMCell"), SERIES),
    "RNN of OptimizedLSTMCell": module(recurrent("OptimizedLSTMCell"), SERIES),
    "RNN of GRUCell": module(recurrent("GRUCell"), SERIES),
    "RNN of SimpleCell": module(recurrent("SimpleCell"), SERIES),
    "Bidirectional GRU": module(bidirectional, SERIES),
    "LoRALinear, PReLU, Einsum, LinearGeneral": module(adapted, vectors(4, 7)),
}
