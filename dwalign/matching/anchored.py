"""Weight matching that starts from what is fixed: each group by the weights beside those that are matched already."""

from typing import Any

import jax

from dwalign.bounds import Count
from dwalign.matching.method import method
from dwalign.matching.weight import match_from
from dwalign.symmetry import Alignment, PermutationSpec

PyTree = Any


@method("anchored weight matching", "#003f6b", needs="weights", host=True, count=("restarts", "best of {}"))
def anchored_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array | None,
    restarts: Count = 1,
    sweeps: Count = 100,
) -> Alignment:
    """Match one group after the other, first those of which most is known, and go on as `weight_matching` does.

    At the identity a layer inside a network is compared across neighbours that have nothing to do with each other.
    Inputs and outputs of two networks mean the same: layers beside these are matched first, then those beside these, by
    the weights that they share with what is known. In MLPs that is how OT fusion goes from layer to layer (Singh and
    Jaggi 2020), with exact assignments. Copies of one network are found where no two units are the same. It mostly ends
    with a larger objective than weight matching, in about the same time, and in a fraction of it where layers are wide.

    Args:
      spec, a, b: what is matched.
      key: draws orders and restarts, as for `weight_matching`.
      restarts: number of runs, all but the first from random permutations.
      sweeps: at most so many passes over all groups.

    Returns:
      as `weight_matching`; `history[0]` is the objective after the first sweep behind the start.
    """
    return match_from(spec, a, b, None, key=key, restarts=restarts, sweeps=sweeps)
