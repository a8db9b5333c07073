"""Which method suits two networks of which nothing else is said, and why."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dwalign.deepalign.aligner import deep_align
from dwalign.deepalign.build import load_aligner
from dwalign.deepalign.shipped import SHIPPED
from dwalign.matching import Method, activation_matching_correlation, chain, refine, weight_matching
from dwalign.program import Data, Network
from dwalign.symmetry import PermutationSpec

# the aligner that ships was judged on none much larger, and its descent compiles for long on these
LARGEST = 100_000


class Choice(NamedTuple):
    """A method, and why it is that one."""

    method: Method
    why: str


def choose_method(network: Network | PermutationSpec, data: Data | None = None) -> Choice:
    """The method that leaves the lowest barrier for what is there, by measurement (results/any.json and README).

    With labels that is refinement after activation matching, with inputs activation matching, and without data the
    aligner that ships, where it fits the network, or else weight matching.

    >>> from dwalign.networks import mlp
    >>> str(choose_method(mlp(8, (6, 5), 3).spec).method)
    'weight_matching'
    """
    if data is not None and data[1] is not None:
        return Choice(chain(activation_matching_correlation, refine), "labels tell how well a merged network does")
    if data is not None:
        return Choice(activation_matching_correlation, "inputs tell which units respond alike")
    if not isinstance(network, Network):
        return Choice(weight_matching, "of a spec there are only weights to compare")
    if reason := _unfit(network):
        return Choice(weight_matching, f"the aligner that ships is not for this network: {reason}")
    return Choice(_any(network), "it is ahead of weight matching on small classifiers that it never saw")


def _unfit(network: Network) -> str | None:
    """Why the aligner that ships is not for a network."""
    if "any" not in SHIPPED:
        return "none comes with this version"
    inputs = jax.tree.leaves(network.example)
    if len(inputs) != 1 or not inputs[0].ndim or not jnp.issubdtype(inputs[0].dtype, jnp.floating):
        return "its inputs are no single array of real numbers"
    outputs = jax.tree.leaves(jax.eval_shape(network.apply, network.params, network.example))
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
        return "its outputs are no logits [m, classes]"
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.params))
    return f"it has {count:,} numbers, more than {LARGEST:,}" if count > LARGEST else None


@functools.lru_cache(64)
def _any(network: Network) -> Method:
    # kept, for programs are found again by the model they were compiled for
    return deep_align.using(aligner=load_aligner("any", network=network))
