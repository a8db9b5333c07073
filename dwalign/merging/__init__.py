from dwalign.merging.statistics import reset_statistics
from dwalign.merging.two import average

__all__ = ["average", "reset_statistics"]
