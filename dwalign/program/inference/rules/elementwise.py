"""Primitives that compute each entry of the result from the entries at its place."""

from dwalign.program.inference.atoms import uniform
from dwalign.program.inference.facts import Facts
from dwalign.program.inference.rules.registry import rule, shapes
from dwalign.program.inference.rules.unknown import unknown


@rule(
    *"""
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp clz complex conj
    convert_element_type copy copy_p cos cosh device_put digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge
    gt igamma igamma_grad_a igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul
    mul_add mulhi name ne neg nextafter not optimization_barrier or polygamma population_count pow pvary
    random_gamma_grad real reduce_precision regularized_incomplete_beta rem round rsqrt select_n sharding_constraint
    shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor
    zeros_like zeta
    """.split()
)
def elementwise(facts: Facts, eqn, ins):
    if len(eqn.outvars) > 1:
        return ins
    (shape,) = shapes(eqn.outvars)
    # scalars beside arrays: a predicate, bounds
    whole = [dims for dims in ins if len(dims) == len(shape)]
    return [[atom or uniform(size) for atom, size in zip(facts.unify_all(whole, eqn), shape, strict=True)]]


@rule("bitcast_convert_type")
def bitcast(facts, eqn, ins):
    same = len(set(shapes([*eqn.invars, *eqn.outvars]))) == 1
    return ins if same else unknown(facts, eqn, ins)
