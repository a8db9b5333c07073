"""In which order a layer reads the dimensions of its weights: what lies beside, what it sums over, what it makes.

A kernel is `[in, out]` to one library and `[out, in]` to another. Which dimension is which, its contraction with what
depends on the inputs tells, however the weights were turned before.
"""

import math
from collections.abc import Mapping, Sequence

from dwalign.program.inference.facts import Facts, Occurrence, Step

# for each dimension of a value those of the array that it comes from
Origins = tuple[frozenset[int], ...]
NOWHERE: frozenset[int] = frozenset()
BESIDE, SUMMED, MADE = range(3)
CONTRACTIONS = ("dot_general", "ragged_dot_general", "conv_general_dilated")


def reading(facts: Facts, params: Sequence[Occurrence]) -> dict[int, tuple[int, ...]]:
    """For parameters by their number the order of their dimensions, where it is not their own.

    The first layer that reads an array decides.
    """
    turned: dict[int, dict[int, Origins]] = {
        one.number: {k: tuple(frozenset({d}) for d in range(len(one.dims)))} for k, one in enumerate(params)
    }
    found: dict[int, tuple[int, ...]] = {}
    for step in facts.steps:
        weights = [(k, one) for k, one in enumerate(step.ins) if one.number in turned and not one.data]
        layer = step.name in CONTRACTIONS
        if layer and any(one.data for one in step.ins):
            for operand, one in weights:
                for k, origins in turned[one.number].items():
                    found.setdefault(k, _order(len(params[k].dims), origins, _parts(step, operand)))
        elif not layer and not any(one.data for one in step.ins):
            for out in step.outs:
                moved = {k: _moved(step, one, out, ds) for _, one in weights for k, ds in turned[one.number].items()}
                if any(map(any, moved.values())):
                    turned.setdefault(out.number, {}).update(moved)
    return {k: order for k, order in found.items() if order != tuple(sorted(order))}


def _order(rank: int, origins: Origins, part: Mapping[int, int]) -> tuple[int, ...]:
    parts = [max((part.get(axis, MADE) for axis, ds in enumerate(origins) if d in ds), default=0) for d in range(rank)]
    return tuple(sorted(range(rank), key=lambda d: (parts[d], d)))


def _parts(step: Step, operand: int) -> dict[int, int]:
    """What the axes of an operand are to a contraction; those left out are made."""
    params = step.eqn.params
    if step.name == "conv_general_dilated":
        numbers = params["dimension_numbers"]
        _, summed, *beside = (numbers.lhs_spec, numbers.rhs_spec)[operand]
        return {summed: SUMMED} | dict.fromkeys(beside, BESIDE)
    ragged = params.get("ragged_dot_dimension_numbers")
    summed, beside = params["dimension_numbers"] if ragged is None else ragged.dot_dimension_numbers
    rows = () if ragged is None or operand != 1 else ragged.rhs_group_dimensions
    return dict.fromkeys(summed[operand], SUMMED) | dict.fromkeys((*beside[operand], *rows), BESIDE)


def _moved(step: Step, one: Occurrence, out: Occurrence, origins: Origins) -> Origins:
    """Where the dimensions of a result come from; nowhere, where that is not known."""
    rank, params = len(out.dims), {} if step.eqn is None else step.eqn.params
    if step.name == "transpose":
        return tuple(origins[axis] for axis in params["permutation"])
    if step.name == "broadcast_in_dim":
        places = dict(zip(params["broadcast_dimensions"], origins, strict=True))
        return tuple(places.get(axis, NOWHERE) for axis in range(rank))
    if step.name == "squeeze":
        return tuple(ds for axis, ds in enumerate(origins) if axis not in params["dimensions"])
    if step.name == "reshape":
        return _reshaped(_shape(one), _shape(out), origins)
    if step.name == "link" and abs(rank - len(origins)) == 1:
        # a turn of a scan sees a row, and rows are collected
        return origins[1:] if rank < len(origins) else (NOWHERE, *origins)
    return origins if rank == len(origins) else (NOWHERE,) * rank


def _shape(one: Occurrence) -> list[int]:
    return [1 if atom is None else atom.size for atom in one.dims]


def _reshaped(before: Sequence[int], after: Sequence[int], origins: Origins) -> Origins:
    """Dimensions that cover the same stretch of entries, as both are read in order, come from each other."""
    # from where to where the strides of each dimension go
    spans = lambda shape: [(math.prod(shape[k + 1 :]), math.prod(shape[k:])) for k in range(len(shape))]
    return tuple(
        frozenset().union(*(ds for (a, b), ds in zip(spans(before), origins, strict=True) if a < high and low < b))
        for low, high in spans(after)
    )
