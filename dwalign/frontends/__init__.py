"""A model of another package becomes a network and its parameters, and goes back.

`from_model` and `into_model` know a model by its type; each package has a file here. In all of them `train` is a call
in evaluation with batch normalisation switched to training: nothing is dropped, so a network has one answer.
"""

from dwalign.frontends.models import (
    Opened,
    check_layers,
    check_model,
    example_inputs,
    from_model,
    into_model,
    names_in_files,
    open_model,
    shapes_of,
    ties,
)
from dwalign.frontends.named import find_model

__all__ = [
    "Opened",
    "check_layers",
    "check_model",
    "example_inputs",
    "find_model",
    "from_model",
    "into_model",
    "names_in_files",
    "open_model",
    "shapes_of",
    "ties",
]
