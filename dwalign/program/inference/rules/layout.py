"""Primitives that lay out the same entries in another shape."""

import math
from collections.abc import Sequence

from dwalign.program.inference.atoms import Atom, Mismatch, uniform
from dwalign.program.inference.facts import Dims
from dwalign.program.inference.rules.registry import joined, rule, shapes
from dwalign.program.inference.structure import regroup

UNFIT = "was divided in a way that does not fit"


@rule("transpose")
def transpose(facts, eqn, ins):
    return [[ins[0][k] for k in eqn.params["permutation"]]]


@rule("squeeze")
def squeeze(facts, eqn, ins):
    gone = {k % len(ins[0]) for k in eqn.params["dimensions"]}
    return [[atom for k, atom in enumerate(ins[0]) if k not in gone]]


@rule("broadcast_in_dim")
def broadcast(facts, eqn, ins):
    (shape,) = shapes(eqn.outvars)
    kept = dict(zip(eqn.params["broadcast_dimensions"], ins[0], strict=True))
    return [[kept.get(d) or uniform(size) for d, size in enumerate(shape)]]


@rule("tile")
def tile(facts, eqn, ins):
    """Copies one after the other: the number of the copy varies slowest."""
    return [
        [
            atom if times == 1 else joined([uniform(times), atom])
            for atom, times in zip(ins[0], eqn.params["reps"], strict=True)
        ]
    ]


@rule("reshape")
def reshape(facts, eqn, ins):
    (shape,) = shapes(eqn.outvars)
    order = eqn.params.get("dimensions")
    dims = ins[0] if order is None else [ins[0][k] for k in order]
    atoms = [atom for atom in dims if atom is not None]
    wanted = [(d, size) for d, size in enumerate(shape) if size > 1]
    out: Dims = [None] * len(shape)
    # dimensions that fill the same stretch of the array are regrouped; the others are left alone
    while wanted:
        group, places = [atoms.pop(0)], [wanted.pop(0)]
        while (have := math.prod(a.size for a in group)) != (need := math.prod(s for _, s in places)):
            if have < need:
                group.append(atoms.pop(0))
            else:
                places.append(wanted.pop(0))
        try:
            made: Sequence[Atom | None] = regroup(group, [size for _, size in places])
        except Mismatch:
            facts.ordered(dims, [k for k, atom in enumerate(dims) if any(atom is one for one in group)], eqn, UNFIT)
            made = [facts.fresh_pinned(size, eqn) for _, size in places]
        for (d, _), atom in zip(places, made, strict=True):
            out[d] = atom
    return [out]
