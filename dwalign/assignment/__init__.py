from dwalign.assignment.hard import assign, hungarian
from dwalign.assignment.soft import sinkhorn, soft_assign

__all__ = ["assign", "hungarian", "sinkhorn", "soft_assign"]
