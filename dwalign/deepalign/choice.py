"""Which method suits two networks of which nothing else is said, and why."""

import hashlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.deepalign.aligner import deep_align
from dwalign.deepalign.build import load_aligner
from dwalign.deepalign.shipped import SHIPPED
from dwalign.encoders import noise
from dwalign.kept import keep
from dwalign.matching import Method, activation_matching_correlation, anchored_matching, chain, find_method, refine
from dwalign.program import Data, Network, as_data, take_examples
from dwalign.symmetry import PermutationSpec

PyTree = Any
# the aligner that ships was judged on none much larger, and its descent compiles for long on these
LARGEST = 100_000
# it looks at no more of them, so that no more are kept and compared
MOST_INPUTS = 256


class Choice(NamedTuple):
    """A method, and why it is that one."""

    method: Method
    why: str


def choose_method(network: Network | PermutationSpec, data: Data | None = None) -> Choice:
    """The method that leaves the lowest barrier for what is there, by measurement (results/any.json and README).

    With labels that is refinement after activation matching. Without labels it is the aligner that ships where it fits
    the network, on inputs if there are any; where it does not fit, activation matching, or else anchored weight
    matching.

    >>> from dwalign.networks import mlp
    >>> str(choose_method(mlp(8, (6, 5), 3).spec).method)
    'anchored_matching'
    """
    data = as_data("choose_method", data)
    if not isinstance(network, Network):
        return Choice(anchored_matching, "of a spec there are only weights to compare")
    if data is not None and data[1] is not None:
        return Choice(chain(activation_matching_correlation, refine), "labels tell how well a merged network does")
    reason = why_unfit(network) or _too_large(network)
    if data is not None and reason:
        why = f"inputs tell which units respond alike, and the aligner that ships is not for this network: {reason}"
        return Choice(activation_matching_correlation, why)
    if reason:
        return Choice(anchored_matching, f"the aligner that ships is not for this network: {reason}")
    ahead = "ahead of activation matching" if data is not None else "mostly ahead of weight matching"
    given = None if data is None else _Given(jax.device_get(take_examples(data[0], slice(MOST_INPUTS))))
    return Choice(_any(network, given), f"it is {ahead} on small classifiers that it never saw")


def as_method(network: Network | PermutationSpec, method: str | Method, data: Data | None = None) -> Method:
    """The method that is asked for: of "auto" that of `choose_method`, of all else that of `find_method`."""
    return choose_method(network, data).method if method == "auto" else find_method(method)


def why_unfit(network: Network) -> str | None:
    """Why the aligner that ships cannot be for a network; None where it can."""
    if "any" not in SHIPPED:
        return "none comes with this version"
    try:
        noise(network.example, 1)
    except ValueError:
        return "its inputs are no single array of real numbers"
    outputs = jax.tree.leaves(jax.eval_shape(network.apply, network.params, network.example))
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or not jnp.issubdtype(outputs[0].dtype, jnp.floating):
        return "its outputs are no logits [m, classes]"
    return None


def _too_large(network: Network) -> str | None:
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.params))
    return f"it has {count:,} numbers, more than {LARGEST:,}" if count > LARGEST else None


class _Given:
    """Inputs that are equal where their numbers are."""

    def __init__(self, inputs: PyTree):
        self.inputs = inputs
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(inputs)]
        self.content = tuple((leaf.shape, leaf.dtype.str, hashlib.sha256(leaf.tobytes()).digest()) for leaf in leaves)

    def __eq__(self, other):
        return isinstance(other, _Given) and self.content == other.content

    def __hash__(self):
        return hash(self.content)


@keep
def _any(network: Network, given: _Given | None) -> Method:
    # kept, for programs are found again by the model they were compiled for
    inputs = None if given is None else given.inputs
    return deep_align.using(aligner=load_aligner("any", network=network, inputs=inputs))
