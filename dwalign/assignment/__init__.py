from dwalign.assignment.augment import augmenting_paths
from dwalign.assignment.elements import (
    MATCHED,
    as_elements,
    best_element,
    best_score,
    best_signs,
    neutral,
    polar,
    projected,
    score_of,
    settled,
    signed,
)
from dwalign.assignment.hard import hungarian, plain_refusal, refuse_unsolved
from dwalign.assignment.host import cores, host_primitive, in_threads
from dwalign.assignment.soft import sinkhorn, soft_assign

__all__ = [
    "MATCHED",
    "as_elements",
    "augmenting_paths",
    "best_element",
    "best_score",
    "best_signs",
    "cores",
    "host_primitive",
    "hungarian",
    "in_threads",
    "neutral",
    "plain_refusal",
    "polar",
    "projected",
    "refuse_unsolved",
    "score_of",
    "settled",
    "signed",
    "sinkhorn",
    "soft_assign",
]
