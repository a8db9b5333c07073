"""Numbers that a program fixes: what they pick is a slice, and what they are is what JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import certify, infer_spec
from dwalign.program.inference.known import COMPUTED
from dwalign.program.inference.walk import OUTPUT, walk_program

RNG = np.random.default_rng(0)
HEADS, UNITS, INNER = 2, 3, 5
WIDTH = HEADS * UNITS
QKV = {
    "qkv": RNG.normal(size=(INNER, 3 * WIDTH)).astype("float32"),
    "o": RNG.normal(size=(HEADS, UNITS, 2)).astype("float32"),
}
X = RNG.normal(size=(3, 4, INNER)).astype("float32")
PARTED, TIED, PINNED = "_, h0*h1 + h0*h1 + h0*h2", "_, 3*h0*h1", "_, _"
NUMBERS = np.arange(3 * WIDTH)


def rows(y):
    return y.reshape(*y.shape[:2], 3, WIDTH)


def three(cut):
    return lambda y: [cut(y, k) for k in range(3)]


CUTS = {
    "a start": (three(lambda y, k: jax.lax.dynamic_slice_in_dim(y, k * WIDTH, WIDTH, 2)), PARTED),
    "a start that is computed": (
        three(
            lambda y, k: jax.jit(lambda y, k: jax.lax.dynamic_slice_in_dim(y, (2 * k + 1) // 2 * WIDTH, WIDTH, 2))(y, k)
        ),
        PARTED,
    ),
    "a start from the end": (three(lambda y, k: jax.lax.dynamic_slice_in_dim(y, (k - 3) * WIDTH, WIDTH, 2)), PARTED),
    "a start for each of many": (
        three(lambda y, k: jax.vmap(lambda y: jax.lax.dynamic_slice_in_dim(y, k * WIDTH, WIDTH, 1))(y)),
        PARTED,
    ),
    "a row": (three(lambda y, k: jax.lax.dynamic_index_in_dim(rows(y), k, 2, keepdims=False)), PARTED),
    "a row of an array": (three(lambda y, k: rows(y)[:, :, jnp.array(k)]), PARTED),
    "a row that is taken": (three(lambda y, k: jnp.take(rows(y), np.array([k]), axis=2)[:, :, 0]), PARTED),
    "numbers in a row": (three(lambda y, k: y[..., NUMBERS[k * WIDTH : (k + 1) * WIDTH]]), PARTED),
    "numbers that are counted": (
        three(lambda y, k: jnp.take(y, jnp.arange(k * WIDTH, (k + 1) * WIDTH), axis=-1)),
        PARTED,
    ),
    "a start that is too large": (
        lambda y: [jax.lax.dynamic_slice_in_dim(y, start, WIDTH, 2) for start in (0, WIDTH, 3 * WIDTH)],
        PARTED,
    ),
    # what the program does not fix, and what is no slice
    "a start that is data": (
        three(lambda y, k: jax.lax.dynamic_slice_in_dim(y, k + (y.max() > 0).astype(int), WIDTH, 2)),
        PINNED,
    ),
    "a row that is data": (three(lambda y, k: rows(y)[:, :, k - (y.max() > 0).astype(int)]), TIED),
    "numbers in another order": (three(lambda y, k: y[..., NUMBERS[k * WIDTH : (k + 1) * WIDTH][::-1]]), PINNED),
    "numbers past the end": (
        lambda y: [y.at[..., NUMBERS[:WIDTH] + start].get(mode="clip") for start in (0, WIDTH, 2 * WIDTH + 1)],
        PINNED,
    ),
}


@pytest.mark.parametrize("name", CUTS)
def test_what_fixed_numbers_pick_is_a_slice(name):
    cut, axes = CUTS[name]

    def apply(p, x):
        q, k, v = (z.reshape(*z.shape[:2], HEADS, UNITS) for z in cut(x @ p["qkv"]))
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return jnp.einsum("bhqk,bkhd,hdo->bqo", weights, v, p["o"])

    spec = infer_spec(apply, QKV, X)
    assert str(spec.axes["qkv"]) == axes
    certify(spec, apply, QKV, X)


@pytest.mark.parametrize("cut", [lambda t: jax.lax.dynamic_slice_in_dim(t, 0, 4, 0), lambda t: t[np.arange(4)]])
def test_what_fixed_numbers_leave_out_is_not_used(cut):
    params = {
        name: RNG.normal(size=shape).astype("float32")
        for name, shape in dict(place=(20, 6), up=(5, 6), o=(6, 2)).items()
    }
    apply = lambda p, x: jnp.tanh(x @ p["up"] + cut(p["place"])[None]) @ p["o"]
    assert dict(infer_spec(apply, params, X).sizes) == {"h0": 6}


def names(jaxpr):
    """Of all primitives in a program."""
    inside = (eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if eqn.primitive.name == "jit")
    return {eqn.primitive.name for eqn in jaxpr.eqns}.union(*map(names, inside))


def test_known_numbers_are_those_that_jax_computes():
    def program():
        k, wide = jnp.arange(6), jax.lax.broadcasted_iota(jnp.int32, (6, 4), 0)
        yield jnp.concatenate([k - 3, jnp.flip(k)]) * np.array([1, -2] * 6)
        yield jnp.where(k > 2, k, -k)
        yield jnp.stack([(k - 3) % 4, (k - 3) // 2, jax.lax.rem(k - 3, 2), jax.lax.div(k - 3, 2), jnp.sign(k - 3)])
        yield wide.T.reshape(3, 8)[:, ::3][None].squeeze(0)
        yield jax.lax.clamp(1, wide, 3) + jnp.maximum(wide, 2) - jnp.minimum(wide, 2)
        yield ~(k <= 2) & (k >= 1) | (k == 5) ^ (k != 3) | (k < 1)
        yield (k.astype(jnp.int8) * jnp.int8(100)).astype(jnp.uint8) + (-k).astype(jnp.uint8)
        yield jax.lax.stop_gradient(jnp.expand_dims(k, 1) * 2**30)

    closed = jax.make_jaxpr(lambda: list(program()))()
    facts, _ = walk_program(closed, 0, [OUTPUT] * len(closed.jaxpr.outvars), {})
    found = [facts.known[one.number] for one in facts.occurrences if one.number in facts.known]
    for value in program():
        assert any(one.dtype == value.dtype and np.array_equal(one, value) for one in found), value
    assert COMPUTED.keys() - names(closed.jaxpr) <= {"copy", "stack", "concatenate", "expand_dims"}
