"""The aligner that ships, fine-tuned for networks of one architecture: what few networks can tell about it."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dwalign.bounds import Amount, bounded
from dwalign.deepalign import Trained, begin_search, deep_align, describe, make_search, train_aligner, untie
from dwalign.deepalign.aligner import Aligner
from dwalign.evaluation.validation import mean_barrier
from dwalign.program import Data, Network, as_data, take_examples
from dwalign.symmetry import count_networks, take_networks
from dwalign.zoo import held_out_pairs

PyTree = Any
# examples that a search looks at, and that batch statistics are computed on
FEW = 1024


@bounded
def fine_tune(
    network: Network,
    train: PyTree,
    validation: PyTree,
    data: Data,
    *,
    folder: str | Path,
    held_out: Data | None = None,
    tries: Amount = 40,
    seed: Amount = 0,
    resume: bool = False,
) -> Trained:
    """The aligner that ships for networks like `network`, with the numbers of which few networks say they are better.

    A random search lowers the barrier between training networks, and what it keeps is chosen by others; nothing better
    than what ships is what ships. The aligner keeps inputs of the data, so that it is applied to weights alone.

    Args:
      network: a classifier of one array of real numbers.
      train, validation: networks that are learned from and that choose, stacked, leaves `[n, ...]` with n at least 2.
        Sixteen and four are enough: there are few numbers to find.
      data: inputs `[m, ...]` and labels, of which the first thousand are looked at.
      folder: of the training, see `train_aligner`; `load_aligner(folder / "checkpoints" / "best", network=network)`
        reads what it found.
      held_out: data that choose, in place of those.
      tries, seed: of the search. A try aligns n / 2 pairs.
      resume: go on where it was interrupted.

    Raises:
      CheckpointError: the folder cannot be written, or holds something else.
    """
    few = take_examples(jax.tree.map(jnp.asarray, as_data("fine_tune", data)), slice(FEW))
    start, config = untie(network, few.inputs)

    def barrier(networks, pairs, judged_on):
        first, second = (take_networks(networks, index) for index in pairs)
        return mean_barrier(network, first, second, judged_on, renew=few.inputs)

    tried = barrier(train, held_out_pairs(count_networks(train)), few)
    # each beside the next: there are few of them, and one pair says little
    circle = jnp.arange(count_networks(validation))
    chosen = barrier(validation, (circle, jnp.roll(circle, -1)), few if held_out is None else held_out)
    using = lambda variables: deep_align.using(aligner=Aligner(start.model, variables))
    return train_aligner(
        start.model,
        make_search(lambda variables, _: tried(using(variables))),
        begin_search(start.variables, seed),
        steps=tries + 1,
        validate=lambda aligner: chosen(using(aligner.variables)),
        validate_every=1,
        folder=folder,
        info=describe(network, config, few.inputs),
        resume=resume,
    )
