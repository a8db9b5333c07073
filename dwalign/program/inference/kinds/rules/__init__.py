"""What the equations of a program ask of exponents, by primitive."""

from dwalign.program.inference.kinds.rules import contraction, elementwise, indexing, layout, order, pieces
from dwalign.program.inference.kinds.rules.elementwise import as_a_whole
from dwalign.program.inference.kinds.rules.registry import apply_rule

__all__ = ["apply_rule", "as_a_whole", "contraction", "elementwise", "indexing", "layout", "order", "pieces"]
