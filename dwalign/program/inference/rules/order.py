"""Primitives along dimensions: those that treat all positions alike, and those for which their order matters."""

from dwalign.program.inference.positions import put_back
from dwalign.program.inference.rules.registry import resized, rule, shapes


@rule(*"argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor".split())
def reduction(facts, eqn, ins):
    gone = set(eqn.params["axes"])
    return [[atom for k, atom in enumerate(ins[0]) if k not in gone]]


@rule("reduce")
def combined(facts, eqn, ins):
    """Any program combines two entries: whether it minds their order is not known."""
    gone = eqn.params["dimensions"]
    arrays = ins[: len(eqn.outvars)]
    facts.pin([atom for dims in ins[len(arrays) :] for atom in dims], eqn)
    dims = facts.ordered(facts.unify_all(arrays, eqn), gone, eqn)
    return [[atom for k, atom in enumerate(dims) if k not in gone] for _ in eqn.outvars]


@rule(*"cumsum cumprod cummax cummin cumlogsumexp rev".split())
def along(facts, eqn, ins):
    """Operations along dimensions whose order matters; all others stay independent of one another."""
    axes = eqn.params.get("dimensions") or (eqn.params["axis"],)
    return [facts.ordered(ins[0], axes, eqn)]


@rule("sort")
def sort(facts, eqn, ins):
    """Which unit is the first does not depend on how units are numbered: the ranks are new, fixed positions."""
    dims, axis = facts.unify_all(ins, eqn), eqn.params["dimension"]
    facts.mixed(dims, [axis])
    dims[axis] = put_back(eqn, facts.operands) or facts.fresh_pinned(shapes(eqn.invars)[0][axis], eqn)
    return [list(dims) for _ in eqn.outvars]


@rule("top_k")
def top_k(facts, eqn, ins):
    axis = eqn.params.get("axis", len(ins[0]) - 1) % len(ins[0])
    facts.mixed(ins[0], [axis])
    ranks = facts.fresh_pinned(shapes(eqn.outvars)[0][axis], eqn)
    return [[*ins[0][:axis], ranks, *ins[0][axis + 1 :]] for _ in eqn.outvars]


@rule("approx_top_k")
def approximate_top_k(facts, eqn, ins):
    """Looks at some of the places: which it misses depends on the order."""
    return resized(facts, eqn, ins[0], [eqn.params["reduction_dimension"]], "may miss the largest")


@rule("fft")
def fourier(facts, eqn, ins):
    return resized(facts, eqn, ins[0], range(len(ins[0]))[-len(eqn.params["fft_lengths"]) :], "depends on the order")


WINDOW = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")


@rule(
    *"""
    reduce_window reduce_window_max reduce_window_min reduce_window_sum select_and_gather_add select_and_scatter_add
    """.split()
)
def window(facts, eqn, ins):
    """Slides over the positions of the axes on which the window is more than one of them."""
    settings = [eqn.params[name] for name in WINDOW if name in eqn.params]
    moved = [
        k for k, ends in enumerate(eqn.params["padding"]) if any(setting[k] != 1 for setting in settings) or any(ends)
    ]
    arrays = [dims for dims in ins if len(dims) == len(ins[0])]
    for dims in arrays:
        facts.ordered(dims, moved, eqn, "slides over positions")
    kept = [[None if k in moved else atom for k, atom in enumerate(dims)] for dims in arrays]
    return resized(facts, eqn, facts.unify_all(kept, eqn), moved, "slides over positions")


@rule("triangular_solve")
def triangular_solve(facts, eqn, ins):
    """Right-hand sides are solved for one by one."""
    unknowns, others = (-2, -1) if eqn.params["left_side"] else (-1, -2)
    (matrix, right), (_, shape) = ins, shapes(eqn.invars)
    facts.ordered(matrix, [-2, -1], eqn)
    facts.ordered(right, [unknowns], eqn)
    out = facts.unify_all([matrix[:-2], right[:-2]], eqn)
    pair = {unknowns: facts.fresh_pinned(shape[unknowns], eqn), others: right[others]}
    return [[*out, pair[-2], pair[-1]]]
