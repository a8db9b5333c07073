"""Permutations of many networks at once: Frank-Wolfe on the sum over all pairs of <P_i.v_i, P_j.v_j>.

The gradient by the permutations of one network are its weight-matching scores against the sum of all others, so what
matching knows of structure (batched groups, concatenations, groups twice on an array) holds here too. The objective is
a polynomial in the step length, so its best one is found exactly.

Source: Crisostomi et al., "C2M3: Cycle-Consistent Multi-Model Merging" (2024).
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.polynomial import Polynomial

from dwalign.assignment import hungarian
from dwalign.matching.scores import Pair, find_places, sum_products
from dwalign.symmetry import Block, PermutationSpec, SpecError, permute_blocks, to_matrices, voting_blocks, widen

PyTree = Any
Perms = dict[str, jax.Array]
# of the objective; smaller gains are rounding
NOTHING = 1e-6
# of the barycentre in the start: from where no single group can be improved, a hard start would not leave
SOFTENED = 0.5


def climb(
    spec: PermutationSpec, networks: Sequence[PyTree], start: Sequence[Perms], *, steps: int = 200
) -> list[Perms]:
    """Permutations `[*batch, n]` of each network to the universe, from those of `start` on.

    Args:
      spec, networks: at least two networks, on the host.
      start: permutations of each; the climb begins half way between them and the barycentre.
      steps: at most so many.

    Raises:
      SpecError: more than the order of units is free.
    """
    if spec.has_kinds:
        raise SpecError(
            f"merge_many: this way knows orders alone, but the groups are of kinds {sorted(set(spec.kinds.values()))}; "
            "take how='first', 'running_mean' or 'merge_many', or spec.with_kinds() of the network's spec"
        )
    blocks = [[widen(block) for block in voting_blocks(spec, params, xp=np)] for params in networks]
    factors = tuple(block.factors for block in blocks[0])
    places = find_places(spec, factors)
    # every permuted axis of both networks of a pair adds one
    degree = 2 * max((sum(factor in spec.sizes for factor in of) for of in factors), default=0)
    begun = [to_matrices(jax.tree.map(np.asarray, dict(perms))) for perms in start]
    plans = [{g: (1 - SOFTENED) * p + SOFTENED / np.float32(p.shape[-1]) for g, p in plan.items()} for plan in begun]

    def moved(plans):
        return [permute_blocks(spec, of, plan) for of, plan in zip(blocks, plans, strict=True)]

    def vertex(others, of, plan) -> Perms:
        pair = Pair(tuple(others), tuple(of), places)
        scores = {g: sum_products(spec, pair, plan, g, [p for kind in at for p in kind]) for g, at in places.items()}
        return to_matrices(hungarian(scores))

    def between(plans, corners, step):
        mix = lambda p, q: ((1 - step) * p + step * q).astype(np.float32)
        return [{g: mix(p, corner[g]) for g, p in plan.items()} for plan, corner in zip(plans, corners, strict=True)]

    nodes = 0.5 - 0.5 * np.cos(np.pi * np.arange(degree + 1) / max(degree, 1))
    for _ in range(steps):
        here = moved(plans)
        total = _sum(here)
        corners = [vertex(_minus(total, mine), *one) for mine, *one in zip(here, blocks, plans, strict=True)]
        values = [_agreement(here), *(_agreement(moved(between(plans, corners, t))) for t in nodes[1:])]
        step, gain = _best(nodes, values)
        if gain <= NOTHING * abs(values[0]):
            break
        plans = between(plans, corners, step)
    return hungarian(plans)


def _best(nodes, values) -> tuple[float, float]:
    """Where in [0, 1] the polynomial through these points is largest, and by how much that exceeds its start."""
    curve = Polynomial.fit(nodes, values, len(nodes) - 1, domain=[0, 1])
    roots = curve.deriv().roots()
    inside = roots.real[(abs(roots.imag) < 1e-9) & (roots.real > 0) & (roots.real < 1)]
    candidates = np.array([1.0, *inside])
    heights = curve(candidates)
    return float(candidates[heights.argmax()]), float(heights.max() - values[0])


def _agreement(moved: Sequence[Sequence[Block]]) -> float:
    """The sum of the inner products of all pairs: half of what the square of the sum has more than the squares."""
    square = lambda blocks: sum(float(np.vdot(block.array, block.array)) for block in blocks)
    return 0.5 * (square(_sum(moved)) - sum(map(square, moved)))


def _sum(moved: Sequence[Sequence[Block]]) -> list[Block]:
    return [of[0]._replace(array=sum(block.array for block in of)) for of in zip(*moved, strict=True)]


def _minus(total: Sequence[Block], mine: Sequence[Block]) -> list[Block]:
    return [x._replace(array=x.array - y.array) for x, y in zip(total, mine, strict=True)]
