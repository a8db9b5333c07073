from dwalign.matching.activation import activation_matching
from dwalign.matching.features import feature_matching
from dwalign.matching.naive import naive
from dwalign.matching.options import check_options
from dwalign.matching.refine import refine
from dwalign.matching.scores import match_scores
from dwalign.matching.sinkhorn import sinkhorn_rebasin
from dwalign.matching.stages import Stage, read_stages
from dwalign.matching.straight_through import straight_through
from dwalign.matching.weight import weight_matching

__all__ = [
    "Stage",
    "activation_matching",
    "check_options",
    "match_scores",
    "feature_matching",
    "naive",
    "read_stages",
    "refine",
    "sinkhorn_rebasin",
    "straight_through",
    "weight_matching",
]
