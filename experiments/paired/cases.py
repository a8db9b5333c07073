"""Networks whose units have signs or scales, and how they are trained."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import train_inr

from dwalign import zoo
from dwalign.matching import Method, activation_matching_correlation, chain, naive, refine, weight_matching
from dwalign.networks import build, from_module, siren
from dwalign.program import Network

REFINED = (chain(weight_matching, refine), chain(activation_matching_correlation, refine))


class Tanh(nn.Module):
    """Dense layers with tanh between."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        x = x.reshape(x.shape[0], -1)
        for k, width in enumerate(self.widths):
            x = nn.tanh(nn.Dense(width, name=f"dense_{k}")(x))
        return nn.Dense(10, name=f"dense_{len(self.widths)}")(x)


class Rows(nn.Module):
    """The last state of a cell that has read a picture row by row, then a dense layer."""

    cell: Callable[[int], nn.RNNCellBase]
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.RNN(self.cell(self.width))(x[..., 0])[:, -1])


class Case(NamedTuple):
    """Attributes:
    network: makes it.
    recipe: how its networks are trained.
    pairs: so many.
    methods: with which they are matched.
    signals: the network represents sine waves; those of a pair the same one.
    fixable: `fix_signs` knows it.
    """

    network: Callable[[], Network]
    recipe: zoo.Recipe
    pairs: int
    methods: tuple[Method, ...]
    signals: bool = False
    fixable: bool = False


SCALES = (naive, weight_matching, activation_matching_correlation, *REFINED)
SIGNS = (naive, weight_matching, REFINED[0])
PICTURES: dict[str, Any] = dict(shape=[8, 8, 1], outputs=10)
of_digits = lambda module: from_module(module, jnp.zeros((2, 8, 8, 1)), {})
mlp = lambda: build(dict(kind="mlp", inputs=64, widths=[32, 32, 32], outputs=10))
CASES: dict[str, Case] = {
    "MLP": Case(mlp, zoo.Recipe(), 64, SCALES),
    "CNN": Case(
        lambda: build(PICTURES | dict(kind="cnn", channels=[16, 32], widths=[64])), zoo.Recipe(epochs=20), 8, SCALES
    ),
    "VGG": Case(
        lambda: build(PICTURES | dict(kind="vgg", stages=[[16, 16], [32, 32]], widths=[32])),
        zoo.Recipe(epochs=20),
        8,
        SCALES,
    ),
    "tanh MLP": Case(lambda: of_digits(Tanh((32, 32, 32))), zoo.Recipe(), 24, SIGNS, fixable=True),
    "tanh RNN": Case(lambda: of_digits(Rows(nn.SimpleCell, 32)), zoo.Recipe(), 12, SIGNS),
    "GRU": Case(lambda: of_digits(Rows(nn.GRUCell, 32)), zoo.Recipe(), 12, SIGNS),
    "SIREN": Case(
        lambda: siren(1, (64, 64, 64), 1, 8.0), train_inr.Config().recipe, 24, SIGNS, signals=True, fixable=True
    ),
}
# of which factors are looked at more closely
RECIPES: dict[str, tuple[str, zoo.Recipe]] = {
    "MLP": ("MLP", zoo.Recipe()),
    "MLP, learning rate x 5": ("MLP", zoo.Recipe(learning_rate=1e-2)),
    "MLP, no weight decay": ("MLP", zoo.Recipe(weight_decay=0.0)),
    "MLP, weight decay 0.3": ("MLP", zoo.Recipe(weight_decay=0.3)),
    "MLP, 200 epochs": ("MLP", zoo.Recipe(epochs=200)),
    "CNN": ("CNN", CASES["CNN"].recipe),
    "VGG": ("VGG", CASES["VGG"].recipe),
}
