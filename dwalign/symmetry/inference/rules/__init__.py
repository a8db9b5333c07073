"""The rules of all primitives, by name."""

from dwalign.symmetry.inference.rules import contraction, elementwise, indexing, layout, order, pieces, sources
from dwalign.symmetry.inference.rules.registry import RULES, shapes
from dwalign.symmetry.inference.rules.unknown import unknown

__all__ = [
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
