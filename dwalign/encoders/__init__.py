"""Equivariant encoders, one a file; a new file here is found by itself."""

import importlib
import pkgutil

from dwalign.encoders.dws import DWSEncoder
from dwalign.encoders.graph import GraphEncoder
from dwalign.encoders.noise import noise
from dwalign.encoders.probe import ProbeEncoder
from dwalign.encoders.registry import ENCODERS, EncoderShape, encoder

__all__ = ["ENCODERS", "DWSEncoder", "EncoderShape", "GraphEncoder", "ProbeEncoder", "encoder", "noise"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
