"""Weight matching: coordinate descent on the inner product of the weights (Git Re-Basin, Ainsworth et al. 2023).

It is computed on the host, where nothing is compiled, by programs for CPUs too; those for accelerators hold it.
"""

from typing import Any

import jax
import numpy as np

from dwalign.assignment import settled
from dwalign.bounds import Count
from dwalign.files import read_leaf
from dwalign.matching.method import method
from dwalign.matching.objective import start_perms
from dwalign.matching.scores import aligned_product, match_scores, place_products, read_pair
from dwalign.matching.search import Perms, is_mapped, key_words, search
from dwalign.matching.search_in_programs import search_in_program
from dwalign.symmetry import Alignment, PermutationSpec, is_traced

PyTree = Any


@method("weight matching", "#0072b2", needs="weights", host=True, count=("restarts", "best of {}"))
def weight_matching(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    *,
    key: jax.Array | None,
    start: Alignment | None = None,
    restarts: Count = 1,
    sweeps: Count = 100,
) -> Alignment:
    """Match units by the weights they touch, one group at a time, until nothing changes.

    Statistics and arrays that carry no group have no say (`dwalign.symmetry.weight_blocks`).

    Args:
      spec, a, b: what is matched.
      key: draws the order in which groups are assigned in every sweep, and the restarts, the same whenever it is
        called; None is a key as good as another. Programs on accelerators take one order for all pairs, so that these
        go side by side, and draw other restarts.
      start: where the first run starts; the identity by default, as in the reference. Where units are mixed by maps
        nothing is known of them there, and it starts as `anchored_matching` does.
      restarts: number of runs, the others from random permutations; the one with the largest objective is returned.
      sweeps: at most so many passes over all groups. Those that are mixed by maps turn in rounds of their own, until
        they have settled.

    Returns:
      `history` holds <a, P.b> after each sweep, `[sweeps]`, constant once converged; it never decreases. `scores` are
      the weight-matching scores at the result, through which gradients with respect to a and b flow. What is computed
      on the host comes in NumPy arrays; beside them and the networks it holds a few blocks.
    """
    begun = start_perms(spec, start) if start is not None else None if is_mapped(spec) else {}
    return match_from(spec, a, b, begun, key=key, restarts=restarts, sweeps=sweeps)


def match_from(
    spec: PermutationSpec,
    a: PyTree,
    b: PyTree,
    begun: Perms | None,
    *,
    key: jax.Array | None,
    restarts: int,
    sweeps: int,
) -> Alignment:
    """Weight matching of which the first run starts at `begun`, or from what is fixed where that is None.

    Groups that are left out begin at the identity.
    """
    if is_traced((a, b, key, begun)):
        a, b = jax.tree.map(read_leaf, (a, b))
        perms, history = search_in_program(spec, a, b, key=key, begun=begun, restarts=restarts, sweeps=sweeps)
        return Alignment(perms, match_scores(spec, a, b, perms), history)
    pair, words = read_pair(spec, a, b, xp=np), None if key is None else key_words(key)
    perms, scores, history = search(spec, pair, words, begun, restarts, sweeps)
    scores |= {g: place_products(spec, pair, perms, g) for g in spec.sizes.keys() - scores.keys()}
    return Alignment(perms, {g: settled(spec, g, scores[g]) for g in spec.sizes}, history)


def objective(spec: PermutationSpec, a: PyTree, b: PyTree, perms: Perms) -> jax.Array:
    """<a, P.b>, summed over all weights that carry a group; the others add a constant."""
    return aligned_product(spec, read_pair(spec, a, b), perms)
