"""Aligners that come with the package: a card as JSON, and the parameters beside it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dwalign.deepalign.settings import AlignerConfig
from dwalign.files import open_weights, save_params, sealed, unsealed, write_bytes
from dwalign.files.names import nest

PyTree = Any
HOME = Path(__file__).with_name("shipped_aligners")
SHIPPED = frozenset(file.stem for file in HOME.glob("*.json"))


def read_shipped(name: str, *, blind: bool = False) -> tuple[AlignerConfig, PyTree]:
    """The settings and variables of one of `SHIPPED`; of its settings those for inputs, or those where none are."""
    card = unsealed(json.loads((HOME / f"{name}.json").read_text()))
    file = HOME / f"{name}.safetensors"
    arrays = open_weights(file)
    return AlignerConfig(**card["blind" if blind else "aligner"]), nest(
        file, {path: np.asarray(arrays[path]) for path in arrays}
    )


def write_shipped(
    name: str,
    config: AlignerConfig,
    blind: AlignerConfig,
    variables: PyTree,
    card: Mapping[str, Any],
    home: Path = HOME,
) -> None:
    """Write an aligner and its card: what it was trained on, how it does, where it ends, under which licence.

    `blind` are its settings where there are no inputs.
    """
    home.mkdir(exist_ok=True)
    save_params(home / f"{name}.safetensors", variables)
    about = {"aligner": dataclasses.asdict(config), "blind": dataclasses.asdict(blind), **card}
    write_bytes(home / f"{name}.json", (json.dumps(sealed(about), indent=1) + "\n").encode())
