"""One rule a primitive: how the dimensions of its operands make those of its results.

A rule is `rule(facts, eqn, ins) -> outs`; dimensions are lists of atoms, None for those of size 1. What a rule does not
understand it pins.
"""

from collections.abc import Callable

from dwalign.program.inference.atoms import Atom, product
from dwalign.program.inference.facts import Dims
from dwalign.program.inference.tables import register_in

Rule = Callable[..., list[Dims]]
RULES: dict[str, Rule] = {}
rule = register_in(RULES)


def shapes(variables) -> list[tuple[int, ...]]:
    return [tuple(v.aval.shape) for v in variables]


def joined(atoms: Dims) -> Atom | None:
    """One dimension of several, the first varying slowest."""
    kept = [atom for atom in atoms if atom is not None]
    return product(kept) if kept else None


def resized(facts, eqn, dims, axes, why) -> list[Dims]:
    """The order along these axes matters, and they may change their sizes; the others stay as they are."""
    facts.ordered(dims, axes, eqn, why)
    return [
        [facts.fresh_pinned(size, eqn) if k in axes else dims[k] for k, size in enumerate(shape)]
        for shape in shapes(eqn.outvars)
    ]
