"""Which dimensions of an equation run along with one another: its rule is asked.

Applied to fresh dimensions it says which of these are the same, and which come out as they went in.
"""

from collections.abc import Sequence

from dwalign.program.inference.atoms import fresh
from dwalign.program.inference.facts import Dims, Facts, Occurrence
from dwalign.program.inference.rules import RULES, shapes, unknown


def marked(facts: Facts, eqn, operands: Sequence[Occurrence]) -> tuple[list[Dims], list[Dims]]:
    """Dimensions of the operands about which nothing was known, and what the rule of the equation makes of them."""
    marks: list[Dims] = [[None if n == 1 else fresh(n) for n in shape] for shape in shapes(eqn.invars)]
    aside = Facts()
    aside.calls, aside.known = facts.calls, facts.known
    aside.operands = [one._replace(dims=dims, positions=None) for one, dims in zip(operands, marks, strict=True)]
    return marks, RULES.get(eqn.primitive.name, unknown)(aside, eqn, [list(dims) for dims in marks])
