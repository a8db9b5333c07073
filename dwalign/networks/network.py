"""The contract of a network that gets aligned, and how a linen module comes to fulfil it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from dwalign.program import Units, infer_spec, make_capture
from dwalign.symmetry import PermutationSpec

PyTree = Any


class Network(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: `key -> params`, all collections.
      apply: `(params, inputs) -> outputs`.
      capture: `(params, inputs, readout=None) -> (outputs, Units)`: what its hidden units compute.
      spec: its permutation symmetries.
      config: what `dwalign.networks.build` needs to make it again, plain JSON values.
      example: inputs `[1, ...]` that show the shape and the type it takes.
      train: `(params, inputs) -> (outputs, params)` as in training: batch normalisation uses the statistics of these
        inputs and puts them into the params that it returns. None where that makes no difference.
    """

    init: Callable[[jax.Array], PyTree]
    apply: Callable[[PyTree, jax.Array], jax.Array]
    capture: Callable[..., tuple[jax.Array, Units]]
    spec: PermutationSpec
    config: dict[str, Any]
    example: jax.Array
    train: Callable[[PyTree, jax.Array], tuple[jax.Array, PyTree]] | None = None


def from_module(model: nn.Module, example: jax.Array, config: dict[str, Any]) -> Network:
    """The network of a linen module: spec and capture are read off its program.

    Args:
      model: called on inputs alone; one with batch statistics also takes `train=True`.
      example: inputs `[m, ...]` of any content.
      config: what `build` needs to make it again.
    """

    def init(key):
        return model.init(key, example)

    def apply(params, inputs):
        return model.apply(params, inputs)

    def train(params, inputs):
        outputs, updated = model.apply(params, inputs, train=True, mutable=["batch_stats"])
        return outputs, {**params, **updated}

    abstract = jax.eval_shape(init, jax.random.key(0))
    overwritten = {name: name == "batch_stats" for name in abstract}
    # a single example has no axis to tell from the others
    examples = jax.ShapeDtypeStruct((2 * len(example), *example.shape[1:]), example.dtype)
    return Network(
        init,
        apply,
        make_capture(apply),
        infer_spec(apply, abstract, examples, statistics=overwritten),
        config,
        example,
        train if "batch_stats" in abstract else None,
    )


def with_batch_statistics(network: Network) -> Callable[[PyTree, jax.Array], jax.Array]:
    """`(params, inputs) -> outputs` that normalises by the statistics of the very inputs.

    How a network is judged while its weights are still being mixed: stored statistics are those of other weights. The
    network's own `apply` where it has no batch statistics.
    """
    train = network.train
    return network.apply if train is None else lambda params, inputs: train(params, inputs)[0]


def reset_statistics(network: Network, params: PyTree, inputs: jax.Array, *, chunk: int = 500) -> PyTree:
    """Recompute batch statistics on data, as networks need it after merging (Jordan et al. 2023, REPAIR).

    Args:
      network, params: networks without batch statistics come back as they are.
      inputs: `[m, ...]`, training inputs.
      chunk: inputs of one batch; statistics are averaged over the batches, a last smaller one is left out.

    Returns:
      params with the statistics of the hidden units on these inputs.
    """
    if network.train is None:
        return params
    train = network.train
    chunk = min(chunk, inputs.shape[0])
    chunks = inputs[: inputs.shape[0] // chunk * chunk].reshape(-1, chunk, *inputs.shape[1:])
    statistics = jax.lax.map(lambda x: train(params, x)[1]["batch_stats"], chunks)
    return {**params, "batch_stats": jax.tree.map(lambda leaf: leaf.mean(0), statistics)}
