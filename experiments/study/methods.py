"""The methods that are compared."""

import dataclasses

from dwalign.deepalign import deep_align
from dwalign.matching import (
    Method,
    activation_matching,
    activation_matching_correlation,
    anchored_matching,
    chain,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from study.options import Options

MATCHING = tuple(map(str, (activation_matching, activation_matching_correlation)))
OPTIMISED = (str(weight_matching), *MATCHING)


def rebasin(options: Options) -> Method:
    """Sinkhorn re-basin as long as these options have it.

    Its count is one of the options and no part of its name, so that results of all presets name the same methods.
    """
    return dataclasses.replace(sinkhorn_rebasin.using(iterations=options.sinkhorn_iterations), count=None)


def refinement(options: Options) -> Method:
    """Refinement on the first few of the training data."""
    return refine.using(examples=options.refine_images)


def baselines(options: Options) -> list[Method]:
    """The methods that need no aligner."""
    return [
        naive,
        weight_matching,
        weight_matching.using(restarts=5),
        anchored_matching,
        activation_matching,
        activation_matching_correlation,
        straight_through,
        rebasin(options),
        chain(weight_matching, rebasin(options)),
        chain(activation_matching_correlation, refinement(options)),
        refinement(options),
    ]


def learned(options: Options, predict: Method = deep_align, *, longest: bool = True) -> list[Method]:
    """The pass of an aligner, `deep_align.using(aligner=...)`, and what starts from it.

    `longest` includes the full Sinkhorn re-basin.
    """
    short = sinkhorn_rebasin.using(iterations=options.sinkhorn_iterations // 10)
    after = [refinement(options).using(steps=5), refinement(options), short, *([rebasin(options)] if longest else [])]
    return [predict, *(chain(predict, method) for method in after)]
