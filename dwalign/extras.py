"""Libraries that only some parts need: loaded there, or missed with one message."""

import importlib
from typing import Any

EXTRAS = {
    "train": ("orbax", "ott", "tqdm"),
    "data": ("tensorflow_datasets", "sklearn", "skimage", "PIL"),
    "figures": ("matplotlib",),
    "many": ("array_record", "grain", "pyarrow"),
    "torch": ("torch", "torchax"),
    "keras": ("keras", "h5py"),
    "equinox": ("equinox",),
    "haiku": ("haiku",),
    "transformers": ("transformers",),
    "timm": ("timm",),
    "torchvision": ("torchvision",),
}


def load(module: str) -> Any:
    """The module, such as `load("orbax.checkpoint")`.

    Raises:
      ImportError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:
            raise
        extra = next(name for name, modules in EXTRAS.items() if top in modules)
        raise ImportError(
            f"{top} is needed here and is not installed: pip install 'dwalign[{extra}]'", name=top
        ) from error


def progress(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar, on stderr."""
    return load("tqdm").tqdm(iterable, **options)
