"""The parameters of an aligner, drawn in NumPy, and pairs that show the laws of alignments."""

import functools

import jax
import numpy as np

from dwalign.symmetry import inverse, permute
from tests import drawn

# exactness holds where updates and descent count for an alignment, as they do at the start and after training
COUNT = {"updates": 0.5, "spread": 2.0, "rate": 0.3}


def untrained(model, params, seed=0):
    """Variables of which none has the value that it starts with, except for those of `COUNT`."""
    variables = drawn.started(functools.partial(model.init, method="encode"), params, seed=seed)
    for name, leaf in variables["params"].items():
        kind = name.split("_")[0]
        if kind in COUNT:
            variables["params"][name] = np.full_like(leaf, COUNT[kind])
    return variables


def stack(*trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def related(spec, a, b, planted):
    """Stacked pairs: a, b; both relabelled; swapped; a and itself relabelled, `planted` times. And the relabellings."""
    g, h, *hidden = (drawn.perms(spec, seed) for seed in range(2 + planted))
    copies = [(a, permute(spec, a, one)) for one in hidden]
    pairs = [(a, b), (permute(spec, a, g), permute(spec, b, h)), (b, a), *copies]
    firsts, seconds = (stack(*side) for side in zip(*pairs, strict=True))
    return firsts, seconds, (g, h, [inverse(spec, one) for one in hidden])
