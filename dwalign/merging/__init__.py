from dwalign.merging.many import Merged, merge_many
from dwalign.merging.repair import repair
from dwalign.merging.statistics import find_stale, reset_statistics
from dwalign.merging.two import average
from dwalign.merging.unequal import align_unequal, embed

__all__ = ["Merged", "align_unequal", "average", "embed", "find_stale", "merge_many", "repair", "reset_statistics"]
