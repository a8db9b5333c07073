"""Input convex networks of OTT-JAX."""

from collections.abc import Callable
from typing import Any

import jax

from covered.case import Case, opened, vectors

NEEDS = ("ott-jax",)


def convex(**options: Any) -> Callable[[], Case]:
    def build() -> Case:
        from ott.neural.networks import icnn

        return opened(icnn.ICNN(3, (12, 10), **options), vectors(4, 3), key=jax.random.key(0))

    return build


MODELS: dict[str, Callable[[], Case]] = {
    "ICNN": convex(),
    "ICNN of rank 4": convex(ranks=4),
    "ICNN, positive weights": convex(pos_weights=True),
}
