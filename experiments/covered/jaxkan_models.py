"""Kolmogorov-Arnold networks of jaxKAN, one for each kind of layer."""

from collections.abc import Callable
from typing import Any

from covered.case import Case, opened, vectors

NEEDS = ("jaxkan",)


def network(kind: str, **required: Any) -> Callable[[], Case]:
    def build() -> Case:
        from jaxkan.models.KAN import KAN

        return opened(KAN([3, 8, 6, 2], kind, required_parameters=required), vectors(6, 3))

    return build


MODELS: dict[str, Callable[[], Case]] = {
    "base": network("base", k=3, G=4),
    "spline": network("spline", k=3, G=4),
    **{kind: network(kind, D=4) for kind in ("chebyshev", "fourier", "legendre", "rbf", "sine")},
}
