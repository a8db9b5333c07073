from dwalign.encoders.dws import DWSEncoder
from dwalign.encoders.graph import GraphEncoder
from dwalign.encoders.probe import ProbeEncoder

__all__ = ["DWSEncoder", "GraphEncoder", "ProbeEncoder"]
