"""The methods that are compared, each as a function of a pair of networks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax

from dwalign import deepalign
from dwalign.matching import (
    activation_matching,
    naive,
    refine,
    sinkhorn_rebasin,
    straight_through,
    weight_matching,
)
from dwalign.networks import Network, reset_statistics, with_batch_statistics
from study.options import Options
from study.tasks import CLASSIFICATION, Data, Task

PyTree = Any
Method = Callable[..., Any]
MATCHING = ("activation_matching", "activation_matching_correlation")
OPTIMISED = ("weight_matching", *MATCHING)


def then(first: Method, second: Method) -> Method:
    """The method that starts `second` from what `first` found."""

    def method(a, b, *, key):
        keys = jax.random.split(key)
        return second(a, b, key=keys[1], start=first(a, b, key=keys[0]))

    return method


def optimisers(options: Options, network: Network, batch: Data, few: Data, task: Task) -> tuple[Method, Method]:
    """Sinkhorn re-basin on `batch` and refinement on `few`."""
    on = dict(apply=with_batch_statistics(network), loss=task.loss)
    rebasin = partial(sinkhorn_rebasin, network.spec, **on, batch=batch, iterations=options.sinkhorn_iterations)
    return rebasin, partial(refine, network.spec, **on, batch=few)


def baselines(
    options: Options, network: Network, batch: Data, few: Data, task: Task = CLASSIFICATION
) -> dict[str, Method]:
    """The methods that need no aligner; `batch` is the whole training set, `few` that of a step of refinement."""
    spec = network.spec
    match_weights = partial(weight_matching, spec)
    correlate = partial(activation_matching, spec, capture=network.capture, batch=batch, correlation=True)
    rebasin, refined = optimisers(options, network, batch, few, task)
    return {
        "naive": partial(naive, spec),
        "weight_matching": match_weights,
        "weight_matching@5": partial(match_weights, restarts=5),
        "activation_matching": partial(activation_matching, spec, capture=network.capture, batch=batch),
        "activation_matching_correlation": correlate,
        "straight_through": partial(
            straight_through, spec, apply=with_batch_statistics(network), batch=batch, loss=task.loss
        ),
        "sinkhorn": rebasin,
        "weight_matching+sinkhorn": then(match_weights, rebasin),
        "activation_matching_correlation+refine": then(correlate, refined),
        "refine": refined,
    }


def learned(
    options: Options,
    network: Network,
    aligner: deepalign.Aligner | None,
    batch: Data,
    few: Data,
    task: Task = CLASSIFICATION,
    *,
    longest: bool = True,
) -> dict[str, Method]:
    """The methods that start from an aligner (without one, only their names are of use).

    `longest` includes the full Sinkhorn re-basin.
    """
    rebasin, refined = optimisers(options, network, batch, few, task)
    predict = partial(deepalign.deep_align, network.spec, aligner=aligner)
    short = options.sinkhorn_iterations // 10
    methods: dict[str, Method] = {
        "deep_align": predict,
        "deep_align+refine@5": then(predict, partial(refined, steps=5)),
        "deep_align+refine": then(predict, refined),
        f"deep_align+sinkhorn@{short}": then(predict, partial(rebasin, iterations=short)),
    }
    return methods | ({"deep_align+sinkhorn": then(predict, rebasin)} if longest else {})


def on_own_data(make: Callable[[Data], Mapping[str, Method]], example: Data) -> dict[str, Method]:
    """Methods for pairs that each have data of their own: `make(data)` gives those of one pair."""

    def bind(name):
        return lambda a, b, *, key, data: make(data)[name](a, b, key=key)

    return {name: bind(name) for name in make(example)}


def renewal(network: Network, few: Data) -> Callable[[PyTree], PyTree]:
    """What is done to a merged network before it is judged: batch statistics are computed anew."""
    return partial(reset_statistics, network, inputs=few[0])
