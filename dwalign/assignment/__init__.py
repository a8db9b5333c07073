from dwalign.assignment.elements import (
    MATCHED,
    as_elements,
    best_element,
    neutral,
    polar,
    projected,
    score_of,
    settled,
    signed,
)
from dwalign.assignment.hard import hungarian
from dwalign.assignment.soft import sinkhorn, soft_assign

__all__ = [
    "MATCHED",
    "as_elements",
    "best_element",
    "hungarian",
    "neutral",
    "polar",
    "projected",
    "score_of",
    "settled",
    "signed",
    "sinkhorn",
    "soft_assign",
]
