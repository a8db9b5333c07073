from dwalign.many.alignments import Alignments, open_alignments
from dwalign.many.pairs import align_many

__all__ = ["Alignments", "align_many", "open_alignments"]
