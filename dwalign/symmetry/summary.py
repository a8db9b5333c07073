"""How much of a network can be permuted, in a few numbers."""

from typing import Any

import jax

from dwalign.symmetry.spec import PermutationSpec

PyTree = Any


def moving_share(spec: PermutationSpec, params: PyTree) -> float:
    """The share of all numbers that lie on an axis which some group permutes.

    Args:
      spec: what may be permuted.
      params: arrays, or `jax.ShapeDtypeStruct`.

    >>> import numpy as np
    >>> from dwalign.symmetry import Axes
    >>> spec = PermutationSpec({"w": Axes(None, "h"), "b": Axes(None)}, {"h": 3})
    >>> moving_share(spec, {"w": np.ones((2, 3)), "b": np.ones(4)})
    0.6
    """
    factors: list[tuple] = []

    def sizes(params):
        blocks = spec.blocks(params)
        factors.extend(block.factors for block in blocks)
        return [block.array for block in blocks]

    counts = [array.size for array in jax.eval_shape(sizes, params)]
    moving = sum(n for n, names in zip(counts, factors, strict=True) if not set(spec.sizes).isdisjoint(names))
    return round(moving / max(1, sum(counts)), 4)


def pins(spec: PermutationSpec) -> dict[str, int]:
    """For each reason, whatever line it arose at, how many dimensions `infer_spec` pinned, the commonest first."""
    reasons = [note.why.split(" at ")[0] for note in spec.notes]
    return {why: reasons.count(why) for why in sorted(set(reasons), key=lambda why: (-reasons.count(why), why))}
