from dwalign.assignment.elements import (
    MATCHED,
    as_elements,
    best_element,
    best_signs,
    neutral,
    polar,
    projected,
    score_of,
    settled,
)
from dwalign.assignment.hard import hungarian
from dwalign.assignment.soft import sinkhorn, soft_assign

__all__ = [
    "MATCHED",
    "as_elements",
    "best_element",
    "best_signs",
    "hungarian",
    "neutral",
    "polar",
    "projected",
    "score_of",
    "settled",
    "sinkhorn",
    "soft_assign",
]
