"""Primitives that sum products over a dimension of both operands: what a next layer does with units."""

from dwalign.program.inference.atoms import Atom, Mismatch, is_uniform
from dwalign.program.inference.facts import Dims, Facts
from dwalign.program.inference.rules.registry import joined, rule, shapes
from dwalign.program.inference.rules.unknown import unknown
from dwalign.program.inference.structure import split_product


def _contract(facts: Facts, eqn, left: Dims, right: Dims, numbers, taken: tuple[int, ...] = ()) -> Dims:
    """The dimensions of a product; `taken` are those of the right operand that do not come through."""
    (contract_l, contract_r), (batch_l, batch_r) = numbers
    contracted = [_summed(facts, left[k], right[m], eqn) for k, m in zip(contract_l, contract_r, strict=True)]
    batch = [facts.unify(left[k], right[m], eqn) for k, m in zip(batch_l, batch_r, strict=True)]
    free_l = [atom for k, atom in enumerate(left) if k not in (*contract_l, *batch_l)]
    free_r = [atom for k, atom in enumerate(right) if k not in (*contract_r, *batch_r, *taken)]
    facts.roles(batch=batch, contracted=contracted, free=(free_l, free_r))
    facts.read(contracted)
    return [*batch, *free_l, *free_r]


def _summed(facts: Facts, x: Atom | None, y: Atom | None, eqn) -> Atom | None:
    """The dimension that is contracted; where one operand is uniform along it the other is summed by itself."""
    both = facts.unify(x, y, eqn)
    return None if x is None or y is None or is_uniform(x) or is_uniform(y) else both


@rule("dot_general")
def dot_general(facts, eqn, ins):
    return [_contract(facts, eqn, ins[0], ins[1], eqn.params["dimension_numbers"])]


@rule("ragged_dot_general")
def ragged_dot(facts, eqn, ins):
    """Rows sorted by the matrix that multiplies them: rows and matrices have an order, what is contracted has none."""
    numbers = eqn.params["ragged_dot_dimension_numbers"]
    (contract_l, _), (batch_l, _) = numbers.dot_dimension_numbers
    rows, groups = numbers.lhs_ragged_dimensions, tuple(numbers.rhs_group_dimensions)
    if any(k in (*contract_l, *batch_l) for k in rows):
        return unknown(facts, eqn, ins)
    left, right, counts, *_ = ins
    for dims, axes in ((left, rows), (counts, range(len(counts)))):
        facts.ordered(dims, axes, eqn, "takes rows by their number")
    facts.pin([right[k] for k in groups], eqn, "takes rows by their number")
    return [_contract(facts, eqn, left, right, numbers.dot_dimension_numbers, groups)]


@rule("conv_general_dilated")
def convolution(facts, eqn, ins):
    """Slides over positions, unless its window is a single one: then all of them are treated alike."""
    params, (left, right) = eqn.params, ins
    numbers = params["dimension_numbers"]
    (lhs_batch, lhs_feature, *lhs_space) = numbers.lhs_spec
    (rhs_out, rhs_in, *rhs_space) = numbers.rhs_spec
    (shape,) = shapes(eqn.outvars)
    features, inputs, outputs, batch = left[lhs_feature], right[rhs_in], right[rhs_out], left[lhs_batch]
    groups = None
    if (count := params["feature_group_count"]) > 1:
        features, groups = _grouped(facts, eqn, left, lhs_feature, count)
        outputs, same = _grouped(facts, eqn, right, rhs_out, count)
        groups = facts.unify(groups, same, eqn)
    if (count := params["batch_group_count"]) > 1:
        # the gradient of a grouped convolution: images of one group after the other make its outputs
        batch, groups = _grouped(facts, eqn, left, lhs_batch, count)
        outputs, same = _grouped(facts, eqn, right, rhs_out, count)
        groups = facts.unify(groups, same, eqn)
    space = [left[k] for k in lhs_space] + [right[k] for k in rhs_space]
    out: Dims = [facts.fresh_pinned(size, eqn) for size in shape]
    out[numbers.out_spec[0]], out[numbers.out_spec[1]] = batch, joined([groups, outputs])
    for axis, (k, m) in enumerate(zip(lhs_space, rhs_space, strict=True)):
        settings = params["window_strides"][axis], params["lhs_dilation"][axis], *params["padding"][axis]
        if right[m] is None and settings == (1, 1, 0, 0):
            out[numbers.out_spec[2 + axis]] = left[k]
        else:
            facts.ordered(left, [k], eqn, "slides over positions")
            facts.ordered(right, [m], eqn, "slides over positions")
    facts.roles(batch=[groups], contracted=[_summed(facts, features, inputs, eqn)], free=([batch, *space], [outputs]))
    facts.read([left[lhs_feature]])
    return [out]


def _grouped(facts: Facts, eqn, dims: Dims, axis: int, count: int) -> tuple[Atom | None, Atom | None]:
    """The units inside of each group, and the groups; those of a dimension that is divided otherwise are pinned."""
    atom = dims[axis]
    if atom is None or atom.size == count:
        return None, atom
    try:
        groups, units = split_product(atom, atom.size // count)
        return units, groups
    except Mismatch:
        facts.ordered(dims, [axis], eqn, "was divided in a way that does not fit")
        return facts.fresh_pinned(atom.size // count, eqn), facts.fresh_pinned(count, eqn)
