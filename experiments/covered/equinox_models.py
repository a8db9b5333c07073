"""Layers of Equinox and networks of them as its examples have them: activations in the tree are no arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from covered.case import Case, images, opened, vectors

NEEDS = ("equinox",)


def model(make: Callable[[Any, Any], Any], *inputs: Any, call: Callable[..., Any] | None = None) -> Callable[[], Case]:
    """`make(eqx, keys)` gives the module, or parts of one that `call(parts, *inputs)` calls."""

    def build() -> Case:
        import equinox as eqx

        built = make(eqx, iter(jax.random.split(jax.random.key(0), 32)))

        class Whole(eqx.Module):
            parts: Any

            def __call__(self, *inputs):
                return call(self.parts, *inputs)

        return opened(Whole(built) if call else built, *inputs)

    return build


def sequence(cell: str) -> Callable[[], Case]:
    """The recurrent example of its documentation: scanned over a series, the last state read out."""

    def make(eqx, keys):
        return getattr(eqx.nn, cell)(7, 12, key=next(keys)), eqx.nn.Linear(12, 3, key=next(keys))

    def call(module, series):
        cell, head = module
        start = jnp.zeros(12, series.dtype)
        state = (start, start) if cell.__class__.__name__ == "LSTMCell" else start
        last, _ = jax.lax.scan(lambda state, x: (cell(x, state), None), state, series)
        return head(last[0] if isinstance(last, tuple) else last)

    return model(make, vectors(2, 5, 7), call=call)


def cnn(eqx: Any, keys: Any) -> Any:
    """The CNN of its MNIST example."""
    nn = eqx.nn
    return nn.Sequential(
        [
            nn.Conv2d(1, 6, 4, key=next(keys)),
            nn.MaxPool2d(2),
            nn.Lambda(jax.nn.relu),
            nn.Lambda(jnp.ravel),
            nn.Linear(6 * 24 * 24, 32, key=next(keys)),
            nn.Lambda(jax.nn.sigmoid),
            nn.Linear(32, 16, key=next(keys)),
            nn.Lambda(jax.nn.relu),
            nn.Linear(16, 10, key=next(keys)),
            nn.Lambda(jax.nn.log_softmax),
        ]
    )


def vit(eqx: Any, keys: Any) -> Any:
    """The parts of the vision transformer of its examples."""
    nn = eqx.nn
    layer = lambda: dict(
        norm1=nn.LayerNorm(32), attention=nn.MultiheadAttention(4, 32, key=next(keys)), norm2=nn.LayerNorm(32),
        linear1=nn.Linear(32, 48, key=next(keys)), linear2=nn.Linear(48, 32, key=next(keys)),
    )  # fmt: skip
    return dict(
        embed=nn.Linear(48, 32, key=next(keys)), positions=jax.random.normal(next(keys), (17, 32)),
        token=jax.random.normal(next(keys), (1, 32)), layers=[layer(), layer()],
        head=nn.Sequential([nn.LayerNorm(32), nn.Linear(32, 10, key=next(keys))]),
    )  # fmt: skip


def run_vit(net: Any, image: Any) -> Any:
    patches = image.reshape(4, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(16, 48)
    x = jnp.concatenate([net["token"], jax.vmap(net["embed"])(patches)]) + net["positions"]
    for layer in net["layers"]:
        y = jax.vmap(layer["norm1"])(x)
        x = x + layer["attention"](y, y, y)
        y = jax.vmap(layer["norm2"])(x)
        x = x + jax.vmap(layer["linear2"])(jax.nn.gelu(jax.vmap(layer["linear1"])(y)))
    return net["head"](x[0])


def unet(eqx: Any, keys: Any) -> Any:
    nn = eqx.nn
    return dict(
        first=nn.Conv2d(3, 12, 3, padding=1, key=next(keys)), norm=nn.GroupNorm(3, 12),
        down=nn.Conv2d(12, 24, 3, 2, padding=1, key=next(keys)), up=nn.ConvTranspose2d(24, 12, 2, 2, key=next(keys)),
        last=nn.Conv2d(24, 3, 3, padding=1, key=next(keys)), pool=nn.AvgPool2d(2, 2),
    )  # fmt: skip


def run_unet(net: Any, image: Any) -> Any:
    x = jax.nn.relu(net["norm"](net["first"](image)))
    return net["pool"](net["last"](jnp.concatenate([x, net["up"](jax.nn.relu(net["down"](x)))])))


def normalised(eqx: Any, keys: Any) -> Any:
    nn = eqx.nn
    return nn.Sequential(
        [
            nn.WeightNorm(nn.Linear(7, 16, key=next(keys))),
            nn.Lambda(nn.PReLU()),
            nn.RMSNorm(16),
            nn.Linear(16, 12, key=next(keys)),
            nn.Lambda(jax.nn.gelu),
            nn.Linear(12, "scalar", key=next(keys)),
        ]
    )


def rotary(eqx: Any, keys: Any) -> Any:
    nn = eqx.nn
    return dict(
        table=nn.Embedding(20, 32, key=next(keys)), attention=nn.MultiheadAttention(2, 32, key=next(keys)),
        rotary=nn.RotaryPositionalEmbedding(16), norm=nn.RMSNorm(32), head=nn.Linear(32, 20, key=next(keys)),
    )  # fmt: skip


def run_rotary(net: Any, numbers: Any) -> Any:
    x = jax.vmap(net["table"])(numbers)
    turn = lambda q, k, v: (jax.vmap(net["rotary"], 1, 1)(q), jax.vmap(net["rotary"], 1, 1)(k), v)
    y = jax.vmap(net["norm"])(x)
    return jax.vmap(net["head"])(x + net["attention"](y, y, y, mask=jnp.tri(len(x), dtype=bool), process_heads=turn))


def statistics() -> Case:
    """BatchNorm with its state, in inference."""
    import equinox as eqx

    class Net(eqx.Module):
        conv: Any
        norm: Any
        head: Any

        def __call__(self, image, state):
            x, state = self.norm(self.conv(image), state)
            return self.head(jax.nn.relu(x).mean((1, 2))), state

    one, two = jax.random.split(jax.random.key(0))
    make = lambda: Net(
        eqx.nn.Conv2d(3, 12, 3, key=one),
        eqx.nn.BatchNorm(12, axis_name="batch", mode="batch"),
        eqx.nn.Linear(12, 4, key=two),
    )
    return opened(eqx.nn.make_with_state(make)(), images(8).transpose(0, 3, 1, 2))


NUMBERS = jnp.arange(12, dtype=jnp.int32).reshape(2, 6) + 3
FIRST = images(16).transpose(0, 3, 1, 2)
MODELS: dict[str, Callable[[], Case]] = {
    "MLP": model(lambda eqx, keys: eqx.nn.MLP(7, 3, 16, 3, key=next(keys)), vectors(4, 7)),
    "GRUCell": sequence("GRUCell"),
    "LSTMCell": sequence("LSTMCell"),
    "CNN of the MNIST example": model(cnn, images(28, channels=1).transpose(0, 3, 1, 2)),
    "vision transformer of the example": model(vit, images(16), call=run_vit),
    "U-Net": model(unet, FIRST, call=run_unet),
    "WeightNorm, PReLU, RMSNorm": model(normalised, vectors(4, 7)),
    "Embedding, rotary MultiheadAttention": model(rotary, NUMBERS, call=run_rotary),
    "Conv, BatchNorm with state": statistics,
}
