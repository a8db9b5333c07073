"""Will it merge? The barrier between two aligned networks, estimated without a single label.

The estimate is a line in logarithms, fitted on networks of many architectures, and its interval is that in which 90 %
of the networks of architectures lay that the line had not seen (split conformal prediction, Lei et al. 2018, over
architectures). `experiments/will_it_merge.py` makes the numbers and tries them on further architectures.
"""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dwalign.program import Network, as_arrays, as_logits, check_inputs, check_network, compiled, spec_of
from dwalign.symmetry import PermutationSpec, distance, interpolate

PyTree = Any
# barriers far below are all none
NONE = 0.01
NUMBERS = Path(__file__).with_suffix(".json")


class Forecast(NamedTuple):
    """A barrier in nats, and the interval that holds it in 9 of 10 cases."""

    barrier: float
    low: float
    high: float


def forecast(network: Network | PermutationSpec, a: PyTree, b: PyTree, *, inputs: PyTree = None) -> Forecast:
    """What the barrier between two classifiers will be, from weights alone or, better, from inputs without labels.

    Args:
      network: what both are, or its spec where there are no inputs.
      a, b: parameters, b already in the order of a.
      inputs: `[m, ...]`, a few hundred of the kind that the networks are for; outputs must be logits
        or probabilities (`dwalign.program.as_logits`).

    Returns:
      the barrier of the cross-entropy at the midpoint, as `curve` measures it.

    Raises:
      ValueError: inputs are given, and the outputs are not one array of logits `[m, classes]`.

    >>> from dwalign import networks
    >>> net = networks.mlp(8, (6, 5), 3)
    >>> a = net.init(jax.random.key(0))
    >>> forecast(net, a, a, inputs=np.ones((4, 8), np.float32)).barrier < 0.01
    True
    """
    kind = "weights" if inputs is None else "inputs"
    if inputs is not None:
        check_network("forecast", network)
        program: Any = network
        inputs = check_inputs("forecast", program.apply, a, inputs)
        if not gives_logits(program, a, inputs):
            raise ValueError(
                "forecast: outputs must be one array of logits [m, classes] to be read on inputs, found "
                f"{jax.tree.map(jnp.shape, jax.eval_shape(program.apply, a, inputs))}; leave inputs out"
            )
    return predict_barrier(traits(network, a, b, inputs=inputs), _numbers()[kind])


def gives_logits(network: Network, params: PyTree, inputs: PyTree) -> bool:
    """Whether the outputs are one array of real numbers `[m, classes]`, as those of a classifier are."""
    outputs = jax.eval_shape(network.apply, *as_arrays((params, inputs)))
    return hasattr(outputs, "shape") and len(outputs.shape) == 2 and jnp.issubdtype(outputs.dtype, jnp.floating)


def traits(network: Network | PermutationSpec, a: PyTree, b: PyTree, *, inputs: PyTree = None) -> dict[str, float]:
    """What the forecast reads: arguments as for `forecast`.

    Returns:
      `residual`, the logarithm of |a - b|^2 / (|a|^2 + |b|^2); `groups`, of the number of groups; `width`, of the mean
      number of units in one; and with inputs `disagreement`, of the mean Kullback-Leibler divergence in nats of the
      midpoint's answers from the mean answers of a and b (and 0.01, below which nobody cares).
    """
    spec = spec_of("forecast", network)
    zero = jax.tree.map(lambda leaf: np.zeros_like(leaf) if _floating(leaf) else leaf, a)
    size = sum(float(distance(spec, zero, one)) ** 2 for one in (a, b))
    found = {
        "residual": math.log(float(distance(spec, a, b)) ** 2 / max(size, 1e-30) + 1e-6),
        "groups": math.log(max(1, len(spec.sizes))),
        "width": math.log(np.mean(list(spec.sizes.values()) or [1])),
    }
    if inputs is not None:
        found["disagreement"] = math.log(float(_disagreement(network, a, b, as_arrays(inputs))) + NONE)
    return found


def predict_barrier(found: Mapping[str, float], numbers: Mapping[str, Any]) -> Forecast:
    """The forecast of these traits by a fitted line, `{"intercept", "slopes", "low", "high"}`."""
    middle = numbers["intercept"] + sum(slope * found[name] for name, slope in numbers["slopes"].items())
    at = lambda shift: max(0.0, math.exp(middle + shift) - NONE)
    return Forecast(at(0.0), at(numbers["low"]), at(numbers["high"]))


def _floating(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


@compiled(1)
def _disagreement(network: Network, a: PyTree, b: PyTree, inputs: PyTree) -> jax.Array:
    answer = lambda params: jax.nn.log_softmax(as_logits(network.respond(params, inputs)))
    ends = jnp.logaddexp(answer(a), answer(b)) - math.log(2)
    middle = answer(interpolate(network.spec, a, b))
    return (jnp.exp(ends) * (ends - middle)).sum(-1).mean()


@functools.cache
def _numbers() -> Mapping[str, Any]:
    return json.loads(NUMBERS.read_text())
