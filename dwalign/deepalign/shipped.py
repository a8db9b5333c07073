"""Aligners that come with the package: a card as JSON, and the parameters beside it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dwalign.deepalign.settings import AlignerConfig
from dwalign.files import open_weights, save_params, sealed, unsealed, write_bytes
from dwalign.files.names import nest

PyTree = Any
HOME = Path(__file__).with_name("shipped_aligners")
SHIPPED = frozenset(file.stem for file in HOME.glob("*.json"))
"""The names of the aligners that come with the package, for `load_aligner`."""


class Shipped(NamedTuple):
    """The settings and the variables of an aligner."""

    config: AlignerConfig
    variables: PyTree


def read_shipped(name: str, *, blind: bool = False) -> Shipped:
    """One of `SHIPPED`, as it is for inputs, or as it is where there are none; one that learned its inputs is both."""
    card = read_card(name)
    part = "blind" if blind and "blind" in card else "aligner"
    file = HOME / f"{name}.safetensors"
    arrays = open_weights(file)
    return Shipped(AlignerConfig(**card[part]), nest(file, {path: np.asarray(arrays[path]) for path in arrays})[part])


def read_card(name: str) -> dict[str, Any]:
    """What one of `SHIPPED` was trained on, how it does, and what it is for (`limits`)."""
    return unsealed(json.loads((HOME / f"{name}.json").read_text()))


def write_shipped(name: str, sees: Shipped, blind: Shipped | None, card: Mapping[str, Any], home: Path = HOME) -> None:
    """Write an aligner and its card: what it was trained on, how it does, where it ends, under which licence.

    Args:
      name: of the two files.
      sees, blind: for inputs, and where there are none; None where inputs were learned.
    """
    parts = {"aligner": sees} if blind is None else {"aligner": sees, "blind": blind}
    home.mkdir(exist_ok=True)
    save_params(home / f"{name}.safetensors", {part: one.variables for part, one in parts.items()})
    about = {part: dataclasses.asdict(one.config) for part, one in parts.items()} | dict(card)
    write_bytes(home / f"{name}.json", (json.dumps(sealed(about), indent=1) + "\n").encode())
