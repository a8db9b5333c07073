"""One rule a primitive: how the dimensions of its operands make those of its results.

A rule is `rule(facts, eqn, ins) -> outs`; dimensions are lists of atoms, None for those of size 1. What a rule does not
understand it pins.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from dwalign.symmetry.inference.atoms import (
    Atom,
    Mismatch,
    beside,
    concatenation,
    factors,
    fresh,
    leaves,
    pieces,
    pinned,
    product,
    regroup,
    spans,
    split_product,
    split_sum,
)
from dwalign.symmetry.inference.facts import Dims, Facts

Rule = Callable[..., list[Dims]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function):
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def new(size: int, reason=None) -> Atom | None:
    return None if size == 1 else fresh(size, reason)


def shapes(variables) -> list[tuple[int, ...]]:
    return [tuple(v.aval.shape) for v in variables]


@rule(
    *"""
    abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh device_put digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge
    gt imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not
    optimization_barrier or population_count pow real reduce_precision regularized_incomplete_beta rem round
    rsqrt select_n shift_left shift_right_arithmetic shift_right_logical sharding_constraint sign sin sinh sqrt
    square stop_gradient sub tan tanh xor pvary mul_add name
    """.split()
)
def elementwise(facts: Facts, eqn, ins):
    if len(eqn.outvars) > 1:
        return ins
    out = []
    (shape,) = shapes(eqn.outvars)
    for d, size in enumerate(shape):
        atoms = [dims[d] for dims in ins if len(dims) == len(shape) and dims[d] is not None]
        for other in atoms[1:]:
            facts.unify(atoms[0], other, eqn)
        out.append(atoms[0] if atoms else new(size))
    return [out]


@rule("bitcast_convert_type")
def bitcast(facts, eqn, ins):
    same = len(set(shapes([*eqn.invars, *eqn.outvars]))) == 1
    return ins if same else unknown(facts, eqn, ins)


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
    return [[kept.get(d) or new(size) for d, size in enumerate(shape)]]


@rule("tile")
def tile(facts, eqn, ins):
    """Copies one after the other: the number of the copy varies slowest."""
    return [
        [
            atom if times == 1 else product([a for a in (new(times), atom) if a is not None])
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
            facts.pin(group, eqn, "was divided in a way that does not fit")
            made = [facts.fresh_pinned(size, eqn) for _, size in places]
        for (d, _), atom in zip(places, made, strict=True):
            out[d] = atom
    return [out]


@rule(*"reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor".split())
def reduction(facts, eqn, ins):
    gone = set(eqn.params["axes"])
    return [[atom for k, atom in enumerate(ins[0]) if k not in gone]]


@rule("argmax", "argmin")
def argument(facts, eqn, ins):
    facts.ordered(ins[0], eqn.params["axes"], eqn)
    return reduction(facts, eqn, ins)


@rule(*"cumsum cumprod cummax cummin cumlogsumexp rev sort".split())
def along(facts, eqn, ins):
    """Operations along dimensions whose order matters; all others stay independent of one another."""
    params = eqn.params
    axes = params.get("dimensions") or (params["axis"] if "axis" in params else params["dimension"],)
    for dims in ins[1:]:
        for one, other in zip(ins[0], dims, strict=True):
            facts.unify(one, other, eqn)
    return [facts.ordered(ins[0], axes, eqn) for _ in eqn.outvars]


@rule("top_k")
def top_k(facts, eqn, ins):
    axis = eqn.params.get("axis", len(ins[0]) - 1)
    facts.ordered(ins[0], [axis], eqn)
    sizes = shapes(eqn.outvars)[0]
    out = [facts.fresh_pinned(sizes[k], eqn) if k == axis else atom for k, atom in enumerate(ins[0])]
    return [list(out) for _ in eqn.outvars]


@rule("iota")
def iota(facts, eqn, ins):
    (shape,) = shapes(eqn.outvars)
    return [[facts.fresh_pinned(n, eqn) if d == eqn.params["dimension"] else new(n) for d, n in enumerate(shape)]]


@rule("dot_general")
def dot_general(facts, eqn, ins):
    (contract_l, contract_r), (batch_l, batch_r) = eqn.params["dimension_numbers"]
    left, right = ins[0], ins[1]
    for k, m in [*zip(contract_l, contract_r, strict=True), *zip(batch_l, batch_r, strict=True)]:
        facts.unify(left[k], right[m], eqn)
    batch = [left[k] for k in batch_l]
    free_l = [atom for k, atom in enumerate(left) if k not in (*contract_l, *batch_l)]
    free_r = [atom for k, atom in enumerate(right) if k not in (*contract_r, *batch_r)]
    contracted = [left[k] for k in contract_l]
    facts.roles(batch=batch, contracted=contracted, free=(free_l, free_r))
    facts.read(contracted)
    return [[*batch, *free_l, *free_r]]


@rule("conv_general_dilated")
def convolution(facts, eqn, ins):
    params, (left, right) = eqn.params, ins
    numbers = params["dimension_numbers"]
    (lhs_batch, lhs_feature, *lhs_space) = numbers.lhs_spec
    (rhs_out, rhs_in, *rhs_space) = numbers.rhs_spec
    (shape,) = shapes(eqn.outvars)
    if params["batch_group_count"] > 1:
        return unknown(facts, eqn, ins)
    space = [left[k] for k in lhs_space] + [right[k] for k in rhs_space]
    facts.pin(space, eqn, "slides over positions")
    features, inputs, outputs = left[lhs_feature], right[rhs_in], right[rhs_out]
    groups = None
    if (count := params["feature_group_count"]) > 1:
        try:
            groups, features = _leading(features, count)
            same, outputs = _leading(outputs, count)
            facts.unify(groups, same, eqn)
        except Mismatch:
            facts.pin([features, outputs], eqn, "was divided in a way that does not fit")
    facts.unify(features, inputs, eqn)
    batch = left[lhs_batch]
    facts.roles(batch=[groups], contracted=[inputs], free=([batch, *space], [outputs]))
    facts.read([left[lhs_feature]])
    out: Dims = [facts.fresh_pinned(size, eqn) for size in shape]
    out[numbers.out_spec[0]], out[numbers.out_spec[1]] = batch, right[rhs_out]
    return [out]


def _leading(atom: Atom, count: int) -> tuple[Atom | None, Atom | None]:
    if atom.size == count:
        return atom, None
    return split_product(atom, atom.size // count)


@rule(*"reduce_window_max reduce_window_min reduce_window_sum reduce_window select_and_gather_add".split())
def window(facts, eqn, ins):
    params = eqn.params
    per_axis = [params[name] for name in ("window_dimensions", "window_strides", "base_dilation", "window_dilation")]
    moved = [
        k
        for k, (low, high) in enumerate(params["padding"])
        if any(setting[k] != 1 for setting in per_axis) or low or high
    ]
    operands = [dims for dims in ins if len(dims) == len(ins[0])]
    for dims in operands[1:]:
        for one, other in zip(operands[0], dims, strict=True):
            facts.unify(one, other, eqn)
    return _resized(facts, eqn, operands[0], moved, "slides over positions")


def _resized(facts, eqn, dims, axes, why):
    facts.ordered(dims, axes, eqn, why)
    return [
        [facts.fresh_pinned(size, eqn) if k in axes else dims[k] for k, size in enumerate(shape)]
        for shape in shapes(eqn.outvars)
    ]


@rule("concatenate")
def concatenate(facts, eqn, ins):
    axis = eqn.params["dimension"]
    out = list(ins[0])
    for k in range(len(out)):
        if k != axis:
            for dims in ins[1:]:
                facts.unify(out[k], dims[k], eqn)
    sizes = [shape[axis] for shape in shapes(eqn.invars)]
    pieces = [dims[axis] or fresh(1, facts.reason(eqn)) for dims, n in zip(ins, sizes, strict=True) if n]
    out[axis] = _joined(facts, eqn, pieces)
    return [out]


@rule("stack")
def stack(facts, eqn, ins):
    for dims in ins[1:]:
        for one, other in zip(ins[0], dims, strict=True):
            facts.unify(one, other, eqn)
    axis = eqn.params["axis"]
    return [[*ins[0][:axis], facts.fresh_pinned(len(ins), eqn), *ins[0][axis:]]]


@rule("unstack")
def unstack(facts, eqn, ins):
    axis = eqn.params["axis"]
    rows = _cut(facts, eqn, ins[0], axis, [1] * len(eqn.outvars))
    return [[atom for k, atom in enumerate(dims) if k != axis] for dims in rows]


def _joined(facts, eqn, pieces: list[Atom]) -> Atom | None:
    if all(pinned(piece) for piece in pieces):
        return facts.fresh_pinned(sum(piece.size for piece in pieces), eqn)
    return concatenation(pieces)


def _cut(facts, eqn, dims: Dims, axis: int, sizes: Sequence[int]) -> list[list[Atom | None]]:
    """The dimensions of consecutive pieces of a value.

    Positions of a dimension that is pinned or does not fit have no more structure, unless parameters carry it: then
    the others may differ from piece to piece.
    """
    atom = dims[axis]
    cut: Sequence[Atom | None] = [None] * len(sizes)
    others = [list(dims) for _ in sizes]
    if atom is not None:
        if pinned(atom) and not any(leaf.owners for leaf in leaves(atom)):
            cut = [facts.fresh_pinned(size, eqn) for size in sizes]
        else:
            try:
                cut = split_sum(atom, sizes)
                facts.pin([piece for piece in cut if piece.size == 1], eqn, "takes a single position")
                cut = [None if piece.size == 1 else piece for piece in cut]
                first, *rest = factors(atom)
                tail = math.prod(factor.size for factor in rest)
                if all(size % tail == 0 for size in sizes):
                    near = [
                        lambda other, on=on: beside(other, pieces(first), on)
                        for on in spans(first, [size // tail for size in sizes])
                    ]
                    others = [[other and one(other) for other in dims] for one in near]
            except Mismatch:
                facts.pin([atom], eqn, "was cut in a way that does not fit")
                cut = [facts.fresh_pinned(size, eqn) for size in sizes]
    return [[*row[:axis], piece, *row[axis + 1 :]] for row, piece in zip(others, cut, strict=True)]


@rule("split")
def split(facts, eqn, ins):
    return _cut(facts, eqn, ins[0], eqn.params["axis"], eqn.params["sizes"])


@rule("slice")
def static_slice(facts, eqn, ins):
    (source,), strides = shapes(eqn.invars), eqn.params["strides"]
    out = list(ins[0])
    for k, (start, stop) in enumerate(zip(eqn.params["start_indices"], eqn.params["limit_indices"], strict=True)):
        size = source[k]
        if strides is not None and strides[k] != 1 and stop - start > 1:
            facts.ordered(out, [k], eqn)
            out[k] = facts.fresh_pinned(-(-(stop - start) // strides[k]), eqn)
        elif (start, stop) != (0, size):
            sizes = [n for n in (start, stop - start, size - stop) if n]
            out = _cut(facts, eqn, out, k, sizes)[1 if start else 0]
    return [out]


@rule("pad")
def pad(facts, eqn, ins):
    """Padding with one value on the outside concatenates uniform positions; within or negative it pins."""
    out: Dims = []
    (shape,) = shapes(eqn.outvars)
    for k, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        atom = ins[0][k]
        if not (low or high or inner):
            out.append(atom)
        elif atom is None or pinned(atom) or inner or low < 0 or high < 0:
            facts.ordered(ins[0], [k], eqn)
            out.append(facts.fresh_pinned(shape[k], eqn))
        else:
            ends = [fresh(n) if n else None for n in (low, high)]
            out.append(concatenation([piece for piece in (ends[0], atom, ends[1]) if piece is not None]))
    return [out]


@rule("dynamic_slice")
def dynamic_slice(facts, eqn, ins):
    source, kept = shapes(eqn.invars)[0], eqn.params["slice_sizes"]
    return _resized(facts, eqn, ins[0], [k for k, n in enumerate(source) if kept[k] != n], "is indexed by a value")


@rule("dynamic_update_slice")
def dynamic_update_slice(facts, eqn, ins):
    whole, part = shapes(eqn.invars)[:2]
    moved = [k for k in range(len(whole)) if whole[k] != part[k]]
    facts.ordered(ins[1], moved, eqn)
    for k in set(range(len(whole))) - set(moved):
        facts.unify(ins[0][k], ins[1][k], eqn)
    return _resized(facts, eqn, ins[0], moved, "is indexed by a value")


@rule("gather")
def gather(facts, eqn, ins):
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, indices = ins
    source = shapes(eqn.invars)[0]
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    partners = dict(zip(batching, getattr(numbers, "start_indices_batching_dims", ()), strict=True))
    for k, m in partners.items():
        facts.unify(operand[k], indices[m], eqn)
    indexed = [k for k in range(len(source)) if k not in batching and sizes[k] != source[k]]
    facts.ordered(operand, indexed, eqn, "is indexed by a value")
    windows = [k for k in range(len(source)) if k not in (*batching, *numbers.collapsed_slice_dims)]
    # the positions of the last dimension stand for different dimensions of the operand
    facts.ordered(indices, [-1], eqn, "selects positions")
    (shape,) = shapes(eqn.outvars)
    rows = iter(indices[:-1])
    kept = iter(windows)
    out: Dims = []
    for d, size in enumerate(shape):
        if d in numbers.offset_dims:
            k = next(kept)
            out.append(facts.fresh_pinned(size, eqn) if k in indexed else operand[k])
        else:
            out.append(next(rows))
    return [out]


@rule("scatter-add", "scatter-mul", "scatter-min", "scatter-max")
def scatter(facts, eqn, ins):
    """The mirror of gather; in which order updates of one place arrive is indifferent."""
    numbers = eqn.params["dimension_numbers"]
    operand, indices, updates = ins
    whole, _, part = shapes(eqn.invars)
    batching = tuple(getattr(numbers, "operand_batching_dims", ()))
    if batching:
        return unknown(facts, eqn, ins)
    windows = [k for k in range(len(whole)) if k not in numbers.inserted_window_dims]
    indexed = set(numbers.inserted_window_dims) | set(numbers.scatter_dims_to_operand_dims)
    for k, d in zip(windows, numbers.update_window_dims, strict=True):
        if k in indexed or whole[k] != part[d]:
            indexed.add(k)
            facts.pin([updates[d]], eqn, "is indexed by a value")
        else:
            facts.unify(operand[k], updates[d], eqn)
    rows = [atom for d, atom in enumerate(updates) if d not in numbers.update_window_dims]
    for one, other in zip(rows, indices[:-1], strict=True):
        facts.unify(one, other, eqn)
    facts.ordered(indices, [-1], eqn, "selects positions")
    # an operand of one value all over, such as zeros, has no structure of its own
    given = dict(zip(windows, numbers.update_window_dims, strict=True))
    facts.ordered(operand, sorted(indexed), eqn, "is indexed by a value")
    return [
        [
            facts.fresh_pinned(size, eqn) if k in indexed else operand[k] or updates[given[k]]
            for k, size in enumerate(whole)
        ]
    ]


@rule(
    *"""
    random_bits random_seed random_wrap random_unwrap random_split random_fold_in threefry2x32 random_gamma
    random_clone
""".split()
)
def random(facts, eqn, ins):
    facts.pin(itertools.chain(*ins), eqn, "enters a random number generator")
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]


@rule("eye", "empty", "empty2")
def constant(facts, eqn, ins):
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]


@rule("debug_print", "debug_callback")
def effect(facts, eqn, ins):
    """No result depends on it."""
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]


def unknown(facts, eqn, ins):
    """No rule: everything is pinned, and named in the report."""
    facts.pin(itertools.chain(*ins), eqn, "meets a primitive without a rule")
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]
