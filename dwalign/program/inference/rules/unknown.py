"""Primitives without a rule: everything is pinned but leading axes that JAX itself says are treated one by one."""

import jax

from dwalign.program.inference.facts import Dims, Facts
from dwalign.program.inference.rules.registry import shapes

# they run code of others, whose word for it is no proof
OPAQUE = ("callback", "ffi", "custom", "pallas", "kernel", "composite", "exported", "hi_primitive", "shard", "ref")


def unknown(facts: Facts, eqn, ins) -> list[Dims]:
    """Pins what it touches, but for the leading axes over which the primitive is a map."""
    mapped = batch_axes(eqn)
    for dims in ins:
        facts.ordered(dims, range(mapped, len(dims)), eqn, "meets a primitive without a rule")
    kept = facts.unify_all([dims[:mapped] for dims in ins], eqn) if mapped else []
    return [[*kept, *(facts.fresh_pinned(size, eqn) for size in shape[mapped:])] for shape in shapes(eqn.outvars)]


def batch_axes(eqn) -> int:
    """How many leading axes of all operands and results the primitive maps over.

    `jax.vmap` of the primitive on operands without an axis is by definition the same computation for each position;
    where JAX's batching rule writes that as the very equation at hand, its operands and parameters unchanged, so is
    this one.
    """
    operands, results = shapes(eqn.invars), shapes(eqn.outvars)
    if eqn.effects or any(name in eqn.primitive.name for name in OPAQUE) or not operands:
        return 0
    count = 0
    while all(len(shape) > count and shape[count] == operands[0][count] for shape in (*operands, *results)):
        if not _is_map(eqn, count):
            break
        count += 1
    return count


def _is_map(eqn, outer: int) -> bool:
    """Whether the equation on operands without `outer` leading axes maps over the next one."""
    inside, each = (
        [jax.ShapeDtypeStruct(var.aval.shape[k:], var.aval.dtype) for var in eqn.invars] for k in (outer, outer + 1)
    )

    def bound(*values):
        return eqn.primitive.bind(*values, **eqn.params)

    try:
        # batching rules do not ask whether there is such a computation
        jax.eval_shape(bound, *each)
        jaxpr = jax.make_jaxpr(jax.vmap(bound))(*inside).jaxpr
        (mapped,) = jaxpr.eqns
    except Exception:  # a primitive may object in any way to operands of another rank
        return False
    return (
        mapped.primitive is eqn.primitive
        and mapped.params == eqn.params
        and list(mapped.invars) == list(jaxpr.invars)
        and list(mapped.outvars) == list(jaxpr.outvars)
    )
