"""Normalisation folded into the linear maps beside it, so that it hides no symmetry."""

from dwalign.program.folding.fold import fold_norms

__all__ = ["fold_norms"]
