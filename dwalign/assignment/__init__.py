from dwalign.assignment.hard import hungarian
from dwalign.assignment.soft import sinkhorn, soft_assign

__all__ = ["hungarian", "sinkhorn", "soft_assign"]
