"""Matching methods, one a file; a new file here is found by itself."""

import importlib
import pkgutil

from dwalign.matching.activation import activation_matching, activation_matching_correlation, correlations
from dwalign.matching.anchored import anchored_matching
from dwalign.matching.features import feature_matching
from dwalign.matching.gauged import gauged, matched
from dwalign.matching.method import NEEDS, Method, chain, find_method, known_methods, method
from dwalign.matching.naive import naive
from dwalign.matching.refine import refine
from dwalign.matching.scores import match_scores, unit_cosines
from dwalign.matching.sinkhorn import sinkhorn_rebasin
from dwalign.matching.sizes import common_power
from dwalign.matching.straight_through import straight_through
from dwalign.matching.weight import weight_matching

__all__ = [
    "NEEDS",
    "Method",
    "activation_matching",
    "activation_matching_correlation",
    "anchored_matching",
    "chain",
    "common_power",
    "correlations",
    "feature_matching",
    "find_method",
    "gauged",
    "known_methods",
    "match_scores",
    "matched",
    "method",
    "naive",
    "refine",
    "sinkhorn_rebasin",
    "straight_through",
    "unit_cosines",
    "weight_matching",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
