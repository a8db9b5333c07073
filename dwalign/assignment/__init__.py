from dwalign.assignment.hard import assign, hungarian
from dwalign.assignment.soft import sinkhorn

__all__ = ["assign", "hungarian", "sinkhorn"]
