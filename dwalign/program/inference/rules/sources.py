"""Primitives whose results come from no array: positions, random numbers, constants."""

import itertools

import jax.numpy as jnp

from dwalign.program.inference.atoms import fresh, uniform
from dwalign.program.inference.rules.registry import rule, shapes


@rule("iota")
def iota(facts, eqn, ins):
    """Whole numbers are the positions of their dimension until something counts with them (`positions`)."""
    ((shape, axis),) = [(shape, eqn.params["dimension"]) for shape in shapes(eqn.outvars)]
    out = [uniform(size) for size in shape]
    if shape[axis] > 1:
        free = jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.integer)
        out[axis] = fresh(shape[axis]) if free else facts.fresh_pinned(shape[axis], eqn)
    return [out]


@rule(
    *"""
    philox2x32 philox4x32 random_bits random_clone random_fold_in random_gamma random_seed random_split random_unwrap
    random_wrap rng_bit_generator rng_uniform threefry2x32 threefry4x32
    """.split()
)
def random(facts, eqn, ins):
    facts.pin(itertools.chain(*ins), eqn, "enters a random number generator")
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]


@rule("eye", "empty", "empty2", "iota_2x32_shape", "platform_index")
def constant(facts, eqn, ins):
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]


@rule("debug_print", "debug_callback")
def effect(facts, eqn, ins):
    """No result depends on it."""
    return [[facts.fresh_pinned(size, eqn) for size in shape] for shape in shapes(eqn.outvars)]
