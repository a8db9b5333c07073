"""Feature matching: units whose random equivariant features agree are the same unit."""

from typing import Any

import jax

from dwalign.bounds import Count
from dwalign.encoders import GraphEncoder
from dwalign.matching.latents import from_scores, harden, scores_in
from dwalign.matching.method import method
from dwalign.matching.scores import directions, feature_scores
from dwalign.program import together
from dwalign.symmetry import Alignment, PermutationSpec

PyTree = Any


def _random(spec, params, *, key, channels=32, rounds=3) -> dict[str, jax.Array]:
    encoder = GraphEncoder(spec, features=channels, channels=channels, rounds=rounds)
    return directions(spec, encoder.apply(together(encoder.init)(key, params), params))


@method("random features", "#8c6d31", needs="weights", name="features", features=_random)
def feature_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array,
    features: tuple[PyTree, PyTree] | None = None,
    channels: Count = 32,
    rounds: Count = 3,
) -> Alignment:
    """Match units by the features of an encoder with random weights.

    An equivariant encoder gives the units of a relabelled network the same features for every setting of its weights
    (exactness, Navon et al. 2024), so a hidden permutation is found without search where weight matching gets stuck,
    as it does on residual networks. A start for other methods: `features+weight_matching`.

    Args:
      spec, a, b: what is matched.
      key: draws the weights of the encoder.
      features: of a and of b, as `feature_matching.encode` gives them; what is not given is computed.
      channels, rounds: of the graph encoder.
    """
    # one function, so that both networks take one trace
    encode = jax.jit(lambda params: _random(spec, params, key=key, channels=channels, rounds=rounds))
    scores = feature_scores(spec, *(features or map(encode, (a, b))))
    latents = from_scores(spec, scores)
    return Alignment(harden(spec, latents), scores_in(latents))
