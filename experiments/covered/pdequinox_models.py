"""Neural operators and emulators of PDEquinox."""

from collections.abc import Callable
from typing import Any

import jax

from covered.case import Case, images, opened, vectors

NEEDS = ("pdequinox",)
LINES, FIELDS = vectors(2, 1, 16), images(16, channels=1, first=True)


def emulator(name: str, inputs: Any, **options: Any) -> Callable[[], Case]:
    def build() -> Case:
        from pdequinox import arch

        dimensions = inputs.ndim - 2
        made = getattr(arch, name)(dimensions, 1, 1, hidden_channels=8, key=jax.random.key(0), **options)
        return opened(made, inputs)

    return build


MODELS: dict[str, Callable[[], Case]] = {
    "ClassicFNO": emulator("ClassicFNO", LINES, num_modes=4, num_blocks=2),
    "ClassicResNet": emulator("ClassicResNet", LINES, num_blocks=2),
    "ClassicUNet": emulator("ClassicUNet", FIELDS, num_levels=2),
    "DilatedResNet": emulator("DilatedResNet", LINES, num_blocks=1),
    "ModernResNet": emulator("ModernResNet", LINES, num_blocks=2),
    "ModernUNet": emulator("ModernUNet", LINES, num_levels=2),
}
