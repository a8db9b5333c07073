from dwalign.merging.many import Merged, merge_many
from dwalign.merging.statistics import reset_statistics
from dwalign.merging.two import average

__all__ = ["Merged", "average", "merge_many", "reset_statistics"]
