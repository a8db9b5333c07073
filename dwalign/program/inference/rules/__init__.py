"""The rules of all primitives, by name."""

from dwalign.program.inference.rules import contraction, elementwise, indexing, layout, order, pieces, sources
from dwalign.program.inference.rules.registry import RULES, shapes
from dwalign.program.inference.rules.unknown import OPAQUE, unknown

__all__ = [
    "OPAQUE",
    "RULES",
    "contraction",
    "elementwise",
    "indexing",
    "layout",
    "order",
    "pieces",
    "shapes",
    "sources",
    "unknown",
]
