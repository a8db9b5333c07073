"""Feature matching: units whose random equivariant features agree are the same unit."""

from typing import Any

import jax

from dwalign.bounds import Count
from dwalign.encoders import GraphEncoder
from dwalign.matching.latents import from_scores, harden, scores_in
from dwalign.matching.method import method
from dwalign.matching.scores import directions, feature_scores
from dwalign.symmetry import Alignment, PermutationSpec, stack_networks, take_networks

PyTree = Any


def _random(spec, params, *, key, channels=32, rounds=3) -> dict[str, jax.Array]:
    encoder = GraphEncoder(spec, features=channels, channels=channels, rounds=rounds)
    return directions(spec, encoder.apply(encoder.init(key, params), params))


@method("random features", "#8c6d31", needs="weights", name="features", features=_random)
def feature_matching(
    spec: PermutationSpec, a: PyTree, b: PyTree, *, key: jax.Array, channels: Count = 32, rounds: Count = 3
) -> Alignment:
    """Match units by the features of an encoder with random weights.

    An equivariant encoder gives the units of a relabelled network the same features for every setting of its weights
    (exactness, Navon et al. 2024), so a hidden permutation is found without search where weight matching gets stuck,
    as it does on residual networks. A start for other methods: `features+weight_matching`.

    Args:
      spec, a, b: what is matched.
      key: draws the weights of the encoder.
      channels, rounds: of the graph encoder.
    """
    encoder = GraphEncoder(spec, features=channels, channels=channels, rounds=rounds)
    variables = encoder.init(key, a)
    # one program for both networks, which is compiled once
    features = jax.vmap(lambda params: encoder.apply(variables, params))(stack_networks([a, b]))
    scores = feature_scores(spec, *(take_networks(features, k) for k in range(2)))
    latents = from_scores(spec, scores)
    return Alignment(harden(spec, latents), scores_in(latents))
