"""Signs, scales, orthogonal and linear maps of one hidden layer: what is between two linear maps says what is free."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.program import certify, examine, infer_spec, trials
from dwalign.program.missed_kinds import find_missed_kinds
from tests.drawn import named as weights
from tests.program.free import X, inferred, norm, written


def halves(h):
    return jnp.split(h, 2, axis=-1)


def gated(gate):
    def middle(h):
        one, two = halves(h)
        return gate(one) * two

    return middle


def by_a_bit(h):
    h = h * (1 - 2 * jnp.signbit(h))
    return h + jnp.log1p(jnp.exp(-2 * h))


def standard(h, eps=0.0, axis=0):
    h = h - h.mean(axis, keepdims=True)
    return h * lax.rsqrt(jnp.mean(h * h, axis, keepdims=True) + eps)


def after_running(step):
    """What a scan over the batch has after each turn."""
    return lambda h: lax.scan(lambda c, row: (step(c, row), c + row), jnp.zeros(h.shape[-1]), h)[1]


# name: (middle, kind, up, down); columns of up carry the units, rows of down
BETWEEN = {
    # elementwise
    "relu": (jax.nn.relu, "scale", "h0", "h0^-1"),
    "leaky relu": (jax.nn.leaky_relu, "scale", "h0", "h0^-1"),
    "where": (lambda h: jnp.where(h > 0, h, 0.1 * h), "scale", "h0", "h0^-1"),
    "min": (lambda h: jnp.minimum(h, 0), "scale", "h0", "h0^-1"),
    "clip below": (lambda h: jnp.clip(h, 0, None), "scale", "h0", "h0^-1"),
    "max with a part": (lambda h: jnp.maximum(h, 0.5 * h), "scale", "h0", "h0^-1"),
    "tanh": (jnp.tanh, "sign", "h0", "h0"),
    "tanh of numbers": (lambda h: jnp.tanh(jnp.where(jnp.isnan(h), 0, h)), "sign", "h0", "h0"),
    "where it is not what others are": (lambda h: jnp.tanh(jnp.where(h == h[::-1], 0, h)), "sign", "h0", "h0"),
    "where it is not one": (lambda h: jnp.where(jnp.round(h) == 1, 0, jnp.round(h)), "permutation", "h0", "h0"),
    "sine": (lambda h: jnp.sin(5 * h), "sign", "h0", "h0"),
    "erf": (jax.scipy.special.erf, "sign", "h0", "h0"),
    "clip": (lambda h: jnp.clip(h, -0.5, 0.5), "sign", "h0", "h0"),
    "clip to whole numbers": (lambda h: jnp.clip(h, -1, 1), "sign", "h0", "h0"),
    "the other bound first": (lambda h: jnp.maximum(jnp.minimum(h, 0.5), -0.5), "sign", "h0", "h0"),
    "clamp": (lambda h: lax.clamp(np.float32(-0.5), h, np.float32(0.5)), "sign", "h0", "h0"),
    "hard tanh": (jax.nn.hard_tanh, "sign", "h0", "h0"),
    "hard tanh by turns": (
        lambda h: jnp.where(h <= -0.5, -0.5, jnp.where(h >= 0.5, 0.5, h)),
        "sign",
        "h0",
        "h0",
    ),
    "clip to the sizes of others": (
        lambda h: (lambda most: jnp.clip(h, -most, most))(jnp.abs(h[::-1])),
        "monomial",
        "h0",
        "h0^-1",
    ),
    "cosine": (jnp.cos, "sign", "h0", "h0^0"),
    "softsign": (jax.nn.soft_sign, "sign", "h0", "h0"),
    "abs": (jnp.abs, "monomial", "h0", "h0^-1~0"),
    "square": (lambda h: h * h, "monomial", "h0", "h0^-2"),
    "cube": (lambda h: h**3, "monomial", "h0", "h0^-3"),
    "reciprocal": (lambda h: 1 / h, "monomial", "h0", "h0"),
    "cube root": (jnp.cbrt, "monomial", "h0^3", "h0^-1"),
    "root of abs": (lambda h: jnp.sqrt(jnp.abs(h)), "monomial", "h0^2~1", "h0^-1~0"),
    "signed root": (lambda h: jnp.sign(h) * jnp.sqrt(jnp.abs(h)), "monomial", "h0^2~1", "h0^-1"),
    "nothing": (lambda h: h, "linear", "h0", "h0^-1"),
    "half precision": (
        lambda h: jax.nn.relu(h.astype(jnp.bfloat16)).astype(jnp.float32),
        "scale",
        "h0",
        "h0^-1",
    ),
    # exponents that no number of a computer is: neither a guess nor powers of millions
    "a third": (lambda h: jnp.abs(h) ** (1 / 3), "sign", "h0", "h0^0"),
    # two units of one program unit
    "relu both ways": (
        lambda h: jnp.concatenate([jax.nn.relu(h), jax.nn.relu(-h)], -1),
        "scale",
        "h0",
        "h0^-1 + h0^-1",
    ),
    "powers side by side": (
        lambda h: jnp.concatenate([jax.nn.relu(h), h * h], -1),
        "scale",
        "h0",
        "h0^-1 + h0^-2",
    ),
    "gated": (gated(jax.nn.silu), "monomial", "h0^0 + h0", "h0^-1"),
    "bilinear": (gated(lambda h: h), "monomial", "h0^1:0 + h0^0:1", "h0^-1:-1"),
    "relu gate": (gated(jax.nn.relu), "monomial", "h0^1:0~0 + h0^0:1~1", "h0^-1:-1~1"),
    "quotient": (lambda h: jnp.divide(*halves(h)), "monomial", "h0^1:0 + h0^0:1", "h0^-1:1"),
    "maxout": (lambda h: jnp.maximum(*halves(h)), "scale", "h0 + h0", "h0^-1"),
    "the larger of a value and itself": (lambda h: jnp.maximum(h, h), "linear", "h0", "h0^-1"),
    # odd or even as a whole
    "the larger of both signs": (lambda h: jnp.maximum(h, -h), "monomial", "h0", "h0^-1~0"),
    "where it is negative": (lambda h: jnp.where(h < 0, -h, h), "monomial", "h0", "h0^-1~0"),
    "logarithm of cosh": (lambda h: jnp.logaddexp(h, -h), "sign", "h0", "h0^0"),
    "logarithm of cosh by a bit": (by_a_bit, "sign", "h0", "h0^0"),
    "twice the sinh": (lambda h: jnp.exp(h) - jnp.exp(-h), "sign", "h0", "h0"),
    "copied sign": (lambda h: jnp.copysign(jnp.expm1(jnp.abs(h)), h), "sign", "h0", "h0"),
    "softplus on both sides, shifted": (
        lambda h: jax.nn.softplus(h) + jax.nn.softplus(1 - h),
        "permutation",
        "h0",
        "h0",
    ),
    "a step at zero is odd, but for what is zero": (lambda h: jnp.where(h < 0, -1.0, 1.0), "monomial", "h0", "h0^0~1"),
    # slopes
    "slope of tanh": (jax.vmap(jax.vmap(jax.grad(jnp.tanh))), "sign", "h0", "h0^0"),
    "slope of a magnitude": (lambda h: jax.grad(lambda z: jnp.abs(z).sum())(h), "monomial", "h0", "h0^0~1"),
    "slope of a magnitude, forwards": (lambda h: jax.jvp(jnp.abs, (h,), (jnp.sin(h),))[1], "sign", "h0", "h0^0"),
    "slope of a product with a magnitude": (
        lambda h: jax.grad(lambda z: (z * jnp.abs(z)).sum())(h),
        "monomial",
        "h0",
        "h0^-1~0",
    ),
    "magnitude by choice": (lambda h: jnp.where(lax.le(jnp.zeros_like(h), h), h, -h), "monomial", "h0", "h0^-1~0"),
    "turned by the larger": (lambda h: jnp.where(h > h[::-1], h, -h), "scale", "h0", "h0^-1"),
    "slope of tanh, forwards": (lambda h: jax.jvp(jnp.tanh, (h,), (h[::-1],))[1], "sign", "h0", "h0"),
    "slope of the slope of tanh": (jax.vmap(jax.vmap(jax.grad(jax.grad(jnp.tanh)))), "sign", "h0", "h0"),
    "slope of the slope of a scaled tanh": (
        jax.vmap(jax.vmap(jax.grad(jax.grad(lambda h: 1.7159 * jnp.tanh(h * 2 / 3))))),
        "sign",
        "h0",
        "h0",
    ),
    "slope of tanh, narrow": (
        lambda h: jax.vmap(jax.vmap(jax.grad(jnp.tanh)))(h.astype(jnp.bfloat16)).astype(jnp.float32),
        "sign",
        "h0",
        "h0^0",
    ),
    "slope of tanh, for all": (
        lambda h: jnp.sum(
            h[None] * jnp.broadcast_to(jax.vmap(jax.vmap(jax.grad(jnp.tanh)))(h)[:, None], (len(h), *h.shape)), 0
        ),
        "sign",
        "h0",
        "h0",
    ),
    "third slope of tanh": (
        jax.vmap(jax.vmap(jax.jacfwd(jax.grad(jax.grad(jnp.tanh))))),
        "sign",
        "h0",
        "h0^0",
    ),
    "rounded, with the slope of what it rounds": (
        lambda h: h + lax.stop_gradient(jnp.sign(h) - h),
        "monomial",
        "h0",
        "h0^0~1",
    ),
    # along other dimensions, and in loops
    "sums in order": (lambda h: jnp.cumsum(h, 0), "linear", "h0", "h0^-1"),
    "spectrum": (lambda h: jnp.abs(jnp.fft.fft(h, axis=0)), "monomial", "h0", "h0^-1~0"),
    "pooled": (lambda h: lax.reduce_window(h, -jnp.inf, lax.max, (2, 1), (1, 1), "SAME"), "scale", "h0", "h0^-1"),
    "rows picked": (lambda h: h[jnp.array([0, 2, 1])], "linear", "h0", "h0^-1"),
    "rows past the end are no numbers": (
        lambda h: jnp.take(h, jnp.array([0, 2, 1]), 0, fill_value=np.nan),
        "linear",
        "h0",
        "h0^-1",
    ),
    "rows past the end are zero": (
        lambda h: h.at[jnp.array([0, 5, 1])].get(mode="fill", fill_value=0),
        "linear",
        "h0",
        "h0^-1",
    ),
    "sorted rows": (lambda h: jnp.sort(h, 0), "scale", "h0", "h0^-1"),
    "ranks of rows": (lambda h: jnp.argsort(h, 0) * h, "scale", "h0", "h0^-1"),
    "sorted by others": (
        lambda h: lax.sort([jnp.abs(h), jax.nn.relu(h)], dimension=0)[1],
        "scale",
        "h0",
        "h0^-1",
    ),
    "largest rows": (lambda h: lax.top_k(h.T, 3)[0].T, "scale", "h0", "h0^-1"),
    "largest so far": (lambda h: lax.cummax(h, 0), "scale", "h0", "h0^-1"),
    "summed as a tree": (lambda h: lax.associative_scan(jnp.add, h), "linear", "h0", "h0^-1"),
    "rows added": (lambda h: jnp.zeros_like(h).at[jnp.array([0, 0, 1])].add(h), "linear", "h0", "h0^-1"),
    "largest by segments": (
        lambda h: jax.ops.segment_max(h[jnp.array([0, 2, 1, 1])], jnp.array([0, 1, 1, 2]), 3),
        "scale",
        "h0",
        "h0^-1",
    ),
    "largest, if there is any": (lambda h: h - h.max(0, keepdims=True, initial=-np.inf), "scale", "h0", "h0^-1"),
    "rows replaced": (lambda h: lax.dynamic_update_slice(h, 3 * h[:1], (2, 0)), "linear", "h0", "h0^-1"),
    "cond": (
        lambda h: lax.cond(X.sum() > 1, jax.nn.relu, lambda z: jnp.minimum(z, 0), h),
        "scale",
        "h0",
        "h0^-1",
    ),
    "a branch that is never taken": (lambda h: lax.cond(False, jnp.exp, jax.nn.relu, h), "scale", "h0", "h0^-1"),
    "a branch is zero": (
        lambda h: jnp.abs(h) + lax.cond(X.sum() > 99, lambda z: jnp.zeros_like(z), jax.nn.relu, h),
        "scale",
        "h0",
        "h0^-1",
    ),
    "for": (lambda h: lax.fori_loop(0, 3, lambda _, z: 2 * jax.nn.relu(z), h), "scale", "h0", "h0^-1"),
    "running sum": (after_running(lambda c, row: c + jax.nn.relu(row)), "scale", "h0", "h0^-1"),
    "running maximum": (after_running(jnp.maximum), "scale", "h0", "h0^-1"),
    # over units
    "norm": (norm, "orthogonal", "h0", "h0"),
    "norm with eps": (lambda h: norm(h, 1e-3), "orthogonal", "h0", "h0"),
    "length one": (lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True), "orthogonal", "h0", "h0"),
    "a loop until the norm is small": (
        lambda h: lax.while_loop(lambda z: jnp.sum(z**2) > 1, lambda z: z / 2, 9 * h) * jnp.sum(h * h),
        "orthogonal",
        "h0",
        "h0",
    ),
    "similar rows": (lambda h: jax.nn.softmax(h @ h.T) @ h, "orthogonal", "h0", "h0"),
    "over the batch": (standard, "monomial", "h0", "h0^0~1"),
    "over the batch with eps": (lambda h: standard(h, 1e-3), "sign", "h0", "h0"),
    "by the largest": (lambda h: h / jnp.abs(h).max(-1, keepdims=True), "sign", "h0", "h0"),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_what_is_between_two_linear_maps_says_what_is_free(name):
    middle, kind, up, down = BETWEEN[name]
    width = jax.eval_shape(middle, jax.ShapeDtypeStruct((3, 6), np.float32)).shape[-1]
    params = weights(up=(5, 6), down=(width, 2))
    spec, certificate = inferred(lambda p, x: middle(x @ p["up"]) @ p["down"], params, X)
    assert dict(spec.kinds) == {"h0": kind}
    assert written(spec) == {"['down']": f"{down}, _", "['up']": f"_, {up}"}
    assert not certificate.missed


PERMUTED = {
    "exp": jnp.exp,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "a constant": lambda h: h + 1,
    "max with one": lambda h: jnp.maximum(h, 1),
    "max with another power": lambda h: jnp.maximum(h, h * h),
    "clip": lambda h: jnp.clip(h, 0, 1),
    "clip to bounds that are not opposite": lambda h: jnp.clip(h, -0.5, 0.25),
    "clip to bounds the wrong way around": lambda h: jnp.minimum(jnp.maximum(h, 0.5), -0.5) + h,
    "clip to what may be negative": lambda h: (lambda most: jnp.clip(h, -most, most))(X.sum(1, keepdims=True)) + h,
    "what is in between is used": lambda h: (lambda z: jnp.minimum(z, 0.5) + z)(jnp.maximum(h, -0.5)),
    "one bound of a hard tanh elsewhere": lambda h: jnp.where(h > 0.25, 0.5, jnp.where(h < -0.5, -0.5, h)),
    "another value of a hard tanh": lambda h: jnp.where(h > 0.5, 0.5, jnp.where(2 * h < -0.5, -0.5, h)),
    "a hard tanh the wrong way around": lambda h: jnp.where(h > -0.5, -0.5, jnp.where(h < 0.5, 0.5, h)) * h + h,
    "threshold": lambda h: jnp.where(h > 1, h, 0),
    "half of a slope": lambda h: (lambda a: (h + h * a) * (1 - a) + jnp.exp(1 - a))(jnp.tanh(h)),
    "factors of two slopes": lambda h: (h + h * jnp.tanh(h)) * (1 - jnp.tanh(2 * h)),
    "whole numbers": lambda h: h.astype(int).astype(float),
    "relu of a norm": lambda h: jax.nn.relu(norm(h)),
    "sum over units": lambda h: h + h.sum(-1, keepdims=True),
    "softmax over units": jax.nn.softmax,
    "layer norm": lambda h: standard(h, 1e-5, -1),
    "max over units": lambda h: h / h.max(-1, keepdims=True),
    "the sum decides": lambda h: jnp.where(h.sum(-1, keepdims=True) > 0, h, 0.1 * h),
    "two powers": lambda h: jnp.stack([jax.nn.relu(h), h * h]).mean(0),
    "starts with ones": lambda h: lax.scan(lambda c, row: (jax.nn.relu(c + row), c), jnp.ones(6), h)[1],
    "padded with ones": lambda h: jnp.pad(h[1:], ((1, 0), (0, 0)), constant_values=1.0),
    "rows past the end are one": lambda h: h.at[jnp.array([0, 5, 1])].get(mode="fill", fill_value=1),
    "added to ones": lambda h: jnp.ones_like(h).at[jnp.array([0, 0, 1])].add(h),
    "the sign of what may be zero": lambda h: jnp.where(h - jnp.clip(h, -0.5, 0.5) >= 0, 1.0, -1.0),
    "rows changed": lambda h: h.at[jnp.array([0, 1])].apply(jnp.exp),
    "the larger of ones": lambda h: jnp.ones_like(h).at[jnp.array([0, 0, 1])].max(h),
    "a branch is one": lambda h: lax.cond(X.sum() > 1, lambda z: jnp.ones_like(z), lambda z: z, h) * h + h,
    "places of the largest": lambda h: h + lax.top_k(h.T, 3)[1].T,
    "sum of powers": lambda h: h / jnp.sum(h**3, -1, keepdims=True),
}


def test_what_is_odd_in_a_value_that_is_multiplied_out():
    """The sum of both is written anew and gone, so that nothing is known of its sign."""

    def middle(h):
        both = h + h[::-1]
        return jnp.minimum((both - both) + both, (both - both) + both)

    params = weights(up=(5, 6), down=(6, 2))
    apply = lambda p, x: middle(x @ p["up"]) @ p["down"]
    certify(infer_spec(apply, params, X, kinds="all"), apply, params, X)


@pytest.mark.parametrize("name", PERMUTED)
def test_where_nothing_but_the_order_is_free(name):
    params = weights(up=(5, 6), down=(6, 2), one=(5, 4), two=(4, 2))
    # where no group has more nothing is probed
    apply = lambda p, x: (PERMUTED[name](x @ p["up"]) @ p["down"], jax.nn.relu(x @ p["one"]) @ p["two"])
    spec, certificate = inferred(apply, params, X)
    assert written(spec) == {"['down']": "h0, _", "['one']": "_, h1", "['two']": "h1^-1, _", "['up']": "_, h0"}
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "scale"}
    assert "no " in spec.bounds["h0"] and ".py:" in spec.bounds["h0"]
    assert not certificate.missed


@pytest.mark.parametrize(
    "middle",
    [PERMUTED["the sum decides"], lambda h: lax.cond(h[0].sum() > 30, jax.nn.relu, jnp.tanh, h)],
    ids=["nearby", "rarely"],
)
def test_what_one_piece_of_a_function_allows_is_not_free(middle):
    """Of steps to one side alone some stay where the sum has one sign, at every point; some points take one branch."""
    params = weights(up=(5, 6), down=(6, 2), one=(5, 4), two=(4, 2))
    apply = lambda p, x: (middle(x @ p["up"]) @ p["down"], jax.nn.relu(x @ p["one"]) @ p["two"])
    spec, found = infer_spec(apply, params, X, kinds="all"), examine(apply, params, X)
    for seed in (14, 17, 30, 35):
        rng = np.random.default_rng(seed)
        trial = next(trials(found, rng))
        assert not list(find_missed_kinds(spec, trial, trial.floor, rng, patience=60.0))


# what keeps the shape of its argument, and what combines two
ALONE = [middle for middle, _, up, down in BETWEEN.values() if "+" not in up + down] + list(PERMUTED.values())
BESIDE = [
    jnp.add,
    jnp.multiply,
    jnp.maximum,
    lambda one, two: jnp.where(one > two, one, two),
    lambda one, two: one * norm(two),
]


@pytest.mark.parametrize("seed", range(24))
def test_random_programs_are_given_no_more_than_they_have(seed):
    rng = random.Random(seed)
    steps = [rng.choice(ALONE if rng.random() < 0.6 else BESIDE) for _ in range(4)]
    picks = [(rng.randrange(2 + k), rng.randrange(2 + k)) for k in range(4)]

    def apply(p, x):
        values = [x @ p["one"], x @ p["two"]]
        for step, (i, j) in zip(steps, picks, strict=True):
            values.append(step(values[i], values[j]) if step in BESIDE else step(values[i]))
        return jnp.concatenate(values[-2:], -1) @ p["down"]

    params = weights(one=(5, 6), two=(5, 6), down=(12, 2))
    if not np.isfinite(jax.jit(apply)(params, X)).all():
        pytest.skip("a program that overflows has no symmetries to test")
    inferred(apply, params, X, complete=False)
