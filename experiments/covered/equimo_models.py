"""Vision models of Equimo at small sizes."""

from collections.abc import Callable
from typing import Any

import jax

from covered.case import Case, images, opened

NEEDS = ("equimo",)


def model(name: str, size: int, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        import equinox as eqx
        from equimo import models

        class Evaluated(eqx.Module):
            body: Any

            def __call__(self, image):
                return self.body(image, key=jax.random.key(0), inference=True)

        made = getattr(models, name)(key=jax.random.key(0), num_classes=5, **options)
        return opened(Evaluated(made), images(size, first=True))

    return build


SMALL = dict(img_size=32, in_channels=3, patch_size=4, dim=16)
MODELS: dict[str, Callable[[], Case]] = {
    "VisionTransformer": model("VisionTransformer", 32, **SMALL | dict(patch_size=8), num_heads=[2], depths=[2]),
    "Mlla": model("Mlla", 32, **SMALL, depths=[1, 1], num_heads=[2, 4]),
}
