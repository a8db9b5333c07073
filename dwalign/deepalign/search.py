"""Fine-tuning from few networks: what ships, with numbers of its own for each layer, and a search for better ones.

A pass whose descent looks at inputs has few numbers that count. Gradients through all of its steps know little about
them: orders change in jumps, and one gradient costs as much as many passes. A few networks tell which of two values
leaves the lower barrier.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dwalign.bounds import Amount, Positive, Several, bounded
from dwalign.deepalign.aligner import Aligner
from dwalign.deepalign.build import make_model, variables_of
from dwalign.deepalign.settings import AlignerConfig
from dwalign.deepalign.shipped import read_shipped
from dwalign.deepalign.step import METRICS, TrainState
from dwalign.program import Network

PyTree = Any
# where the search for it starts: as what ships has it
SHARPNESS = 1.0


class Untied(NamedTuple):
    """An aligner for one architecture, and the settings of its model."""

    aligner: Aligner
    config: AlignerConfig


def untie(network: Network, inputs: jax.Array, *, name: str = "any") -> Untied:
    """The aligner that ships as one for networks like `network`, which keeps the inputs that it looks at.

    It finds what `load_aligner(name, network=network, inputs=inputs)` finds. Layers have numbers of their own, the
    inputs are parameters, so that a checkpoint holds all that the pass needs, and the sharpness of soft orders in the
    end of descent is one more number.

    Args:
      network: what is aligned.
      inputs: `[m, ...]` of the kind that it is for, of which the first few are kept.
    """
    shipped, tied = read_shipped(name)
    config = dataclasses.replace(shipped, encoder="probe", depth=0, sharpen=SHARPNESS)
    model = make_model(network, config, inputs)
    known = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tied)}
    probes = jnp.asarray(inputs[: config.probes])

    def one(path, shape):
        whole = jax.tree_util.keystr(path)
        kind, _, layer = path[-1].key.partition("_")
        if layer:
            whole = jax.tree_util.keystr((*path[:-1], jax.tree_util.DictKey(f"{kind}_unit")))
        if whole in known:
            return jnp.asarray(known[whole])
        if kind == "sharpness":
            return jnp.float32(SHARPNESS)
        # a read-out is the one that the encoder of what ships draws
        return jax.random.normal(jax.random.key(0), shape.shape) if kind == "readout" else probes

    return Untied(Aligner(model, jax.tree_util.tree_map_with_path(one, variables_of(model, network))), config)


def begin_search(variables: PyTree, seed: Amount = 0) -> TrainState:
    """Where a search from these variables begins."""
    return TrainState(jnp.int32(0), variables, jnp.float32(jnp.inf), jnp.int32(seed))


@bounded
def make_search(
    barrier: Callable[[PyTree, int], jax.Array], *, step: Positive = 0.5, every: Several | None = None
) -> Callable[[TrainState], tuple[TrainState, jax.Array]]:
    """A `state -> (state, losses [4])` that tries other numbers, and keeps them where they leave a lower barrier.

    It takes the place of `make_step` in `train_aligner`, which chooses between what it kept by other networks. Steps
    come in rounds, each with networks of its own: the first step of a round finds what is kept already, and the others
    are compared with it on the same networks. Each try moves all scalars and vectors by factors; inputs stay.

    Args:
      barrier: of variables, on the training networks of a round, by its number; the lowest of the round so far is the
        loss `mode_connectivity` of a step.
      step: of a try, the standard deviation of the logarithm of a factor.
      every: steps a round; all of them if not given.

    >>> search = make_search(lambda variables, _: abs(variables["params"]["rate"] - 2.0))
    >>> state = begin_search({"params": {"rate": jnp.float32(1.0)}})
    >>> for _ in range(20):
    ...     state, losses = search(state)
    >>> bool(losses.sum() < 0.2)
    True
    """
    place = METRICS.index("mode_connectivity")

    def search(state):
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        number, within = divmod(int(state.step), every) if every else (0, int(state.step))
        # on the networks of a new round nothing is known of what is kept
        tried, lowest = (_moved(state.variables, key, step), state.optimiser) if within else (state.variables, jnp.inf)
        found = jnp.asarray(barrier(tried, number))
        # where it is not finite, it is not lower
        kept, lowest = (tried, found) if found < lowest else (state.variables, jnp.float32(lowest))
        return TrainState(state.step + 1, kept, lowest, state.seed), jnp.zeros(len(METRICS)).at[place].set(lowest)

    return search


def _moved(variables: Mapping[str, PyTree], key: jax.Array, step: float) -> PyTree:
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(key, len(leaves))
    move = lambda leaf, key: leaf * jnp.exp(step * jax.random.normal(key, leaf.shape)) if leaf.ndim < 2 else leaf
    return treedef.unflatten([move(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])
