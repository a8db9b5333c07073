"""How clear a matching is: how alike partners are, how much more alike than any other two, and what that is worth.

What it is worth is known where the right partner is: two networks that went on from one, each in its own way, have
units that come from the same. `experiments/how_sure.py` trains such children until hardly a unit can be told, fits a
logistic curve to how often partners are the right ones, and judges it on further architectures.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dwalign.bounds import Count, bounded
from dwalign.files import unsealed
from dwalign.matching import correlations, unit_cosines
from dwalign.program import Data, Network, check_data, check_network, compiled, spec_of
from dwalign.symmetry import PermutationSpec, namespace, permute, with_lists

PyTree = Any
NUMBERS = Path(__file__).with_suffix(".json")
# on Fisher's scale 1 is infinitely far
HIGHEST = 0.99
# similarity that is typical of pairs that have nothing to do with each other, below which contrast says no more
LEAST = 0.05


class Confidence(NamedTuple):
    """Three figures a unit, for each group `[*batch, n]` in the order of the units of a.

    Attributes:
      similarity: of a unit and its partner, from -1 to 1.
      margin: that less the similarity of the unit and the most alike of the other units. Where it is negative another
        unit is more alike: the assignment gave that one to a third unit that needs it more, or the method looked at
        something else. A group of one unit has a margin to -1, the least that a similarity can be.
      chance: the share, from 0 to 1, of partners that look like that which are the right ones.
    """

    similarity: dict[str, jax.Array]
    margin: dict[str, jax.Array]
    chance: dict[str, jax.Array]


@bounded
def confidence(
    network: Network | PermutationSpec,
    a: PyTree,
    b: PyTree,
    perms: Mapping[str, jax.Array],
    *,
    data: Data | None = None,
    chunk: Count = 1000,
) -> Confidence:
    """How alike the units that `perms` brings together are, and whether another partner would be more alike.

    Without data alike are units of which the weights are, incoming and outgoing: the cosine over all weights that a
    unit touches, its neighbours aligned. With data those that respond alike: the correlation of their activations.

    Similarity and margin are no probabilities: two networks may merge well although few weights are alike, as large
    ones do, and a relabelled copy with two units that are the same has margins of 0 and is matched rightly. Units that
    nothing is known of (of a group for which no weight votes, without any weight but zeros, constant on the data) have
    similarity and margin 0. In a batched group, such as the channels of attention heads, a unit is compared with those
    of the head that its own was matched to.

    Chance is a probability, measured on small classifiers of pictures that went on from one network in two ways: right
    are partners that come from the same unit. Its mean over a group is the share of right partners to expect. From
    weights it holds whatever found the matching, on MLPs, convolutional and residual networks, recurrent networks,
    mixers and vision transformers alike. From activations it holds up to several points where the method looked at
    inputs and units differ in what they respond to; it is far too high in an MLP for colour patches, whose units all
    respond alike, and too low where the method looked at weights, which tell more. Networks from different seeds may
    have no right partners: chance is then what it would be for children that look as alike, which ranks units, and no
    more. Units with a handful of weights look alike by accident. Language models and large networks were not measured.

    Args:
      network: or its spec, without data.
      a, b: what was aligned.
      perms: of every group, `[*batch, n]`; those of an `Alignment`.
      data: inputs `[m, ...]`.
      chunk: inputs that are pushed through the networks at once.

    Raises:
      SpecError: perms do not fit, or data with a bare spec.

    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes(None, "h0")}, {"h0": 2})
    >>> a, b = {"w": np.array([[1.0, 0.0], [0.0, 2.0]])}, {"w": np.array([[0.0, 3.0], [4.0, 3.0]])}
    >>> found = confidence(spec, a, b, {"h0": np.array([1, 0])})
    >>> found.similarity["h0"].round(2).tolist(), found.margin["h0"].round(2).tolist()
    ([0.71, 1.0], [0.71, 0.29])
    >>> bool((found.chance["h0"] > 0.9).all())
    True
    """
    spec = spec_of("confidence", network)
    spec.check_pair(a, b)
    moved = permute(spec, b, perms)
    numbers = _numbers()["weights" if data is None else "activations"]
    if data is None:
        # signs and scales are applied already
        found = _clear_each(unit_cosines(spec.with_kinds(), a, moved), numbers)
    else:
        check_network("confidence", network)
        found = _respond_alike(network, chunk, a, moved, check_data("confidence", data).inputs, numbers)
    return Confidence(*({group: found[group][k] for group in spec.sizes} for k in range(3)))


@with_lists
def clues(alike: jax.Array) -> dict[str, jax.Array]:
    """What tells that partners are the right ones, `[*batch, n]` each.

    Similarities are read on Fisher's scale, the inverse hyperbolic tangent, on which .90 and .95 are further apart than
    .0 and .3. Typical is a mean weighted by what it is of, to which units that nothing is known of add nothing.

    Args:
      alike: the similarities of all pairs `[*batch, n, n]` of one group, partners on the diagonal.

    Returns:
      `lead`: how much more alike partners are than each of them and the most alike of the others, the mean of the two.
      `contrast`: how many times more alike than is typical of each of them and the others, the mean of the two.
      `company`: the logarithm of 1 more than the contrast that is typical of partners in the group (of a batched one in
      this part of it): where all others are found a doubtful one is likely to be, too.

    >>> {name: clue.round(1).tolist() for name, clue in clues(np.array([[0.9, 0.5], [0.1, 0.9]])).items()}
    {'lead': [1.1, 1.1], 'contrast': [6.2, 6.2], 'company': [2.0, 2.0]}
    """
    xp = namespace(alike)
    scale = xp.arctanh(xp.clip(alike, -HIGHEST, HIGHEST))
    same = np.eye(alike.shape[-1], dtype=bool)
    own = xp.diagonal(scale, axis1=-2, axis2=-1)
    rivals, others = xp.where(same, -math.inf, scale), xp.where(same, 0.0, abs(scale))
    typical = lambda x, axis: (x * abs(x)).sum(axis) / (abs(x).sum(axis) + 1e-3)
    best = (xp.maximum(rivals.max(axis), -math.atanh(HIGHEST)) for axis in (-1, -2))
    contrast = sum(own / (typical(others, axis) + LEAST) for axis in (-1, -2)) / 2
    # similarity itself is no company: where all are alike, as where all see nothing but colours, it is high everywhere
    company = xp.log1p(xp.maximum(typical(contrast, -1), 0.0))
    return {
        "lead": own - sum(best) / 2,
        "contrast": contrast,
        "company": company[..., None] + xp.zeros_like(own),
    }


@with_lists
def predict_chance(clues: Mapping[str, jax.Array], numbers: Mapping[str, float]) -> jax.Array:
    """The probability that partners are the right ones, `[*batch, n]`, by a fitted curve.

    The odds start where they are for a partner that is drawn, 1 to n - 1: there they stay where nothing is known, and
    one unit has no other.

    Args:
      clues: `[*batch, n]` each, of one group.
      numbers: what the logarithm of the odds gains by each of those that count.

    >>> predict_chance({"lead": np.zeros(4)}, {"lead": 3.0}).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    odds = sum(slope * clues[name] for name, slope in numbers.items())
    n = odds.shape[-1]
    odds = odds - (math.log(n - 1) if n > 1 else -math.inf)
    return (1 + namespace(odds).tanh(odds / 2)) / 2


@compiled(2)
def _respond_alike(network, chunk, a, moved, inputs, numbers) -> dict[str, tuple[jax.Array, jax.Array, jax.Array]]:
    return _clear_each(correlations(network, a, moved, inputs, chunk=chunk).items(), numbers)


def _clear_each(alike: Iterable[tuple[str, jax.Array]], numbers: Mapping[str, float]) -> dict[str, tuple]:
    return {group: _clear(one, numbers) for group, one in alike}


def _clear(alike: jax.Array, numbers: Mapping[str, float]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The figures from the similarities of all pairs `[*batch, n, n]`, of which partners are the diagonal."""
    xp = namespace(alike)
    partner = xp.diagonal(alike, axis1=-2, axis2=-1)
    others = xp.where(np.eye(alike.shape[-1], dtype=bool), -1.0, alike).max(-1)
    return partner, partner - others, predict_chance(clues(alike), numbers)


@functools.cache
def _numbers() -> Mapping[str, Any]:
    return unsealed(json.loads(NUMBERS.read_text()))
