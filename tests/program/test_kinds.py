"""Signs, scales, orthogonal and linear maps, read off programs, certified on numbers, and none of them missed."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.program import CertificateError, certify, examine, infer_spec, trials
from dwalign.program.missed_kinds import find_missed_kinds
from dwalign.symmetry import Axes, PermutationSpec, correspondence
from tests import drawn
from tests.networks.declared import CASES, randomised

X = drawn.normal(3, 5)
weights = drawn.named


def inferred(apply, params, *inputs, complete=True):
    """With the certificate of it."""
    spec = infer_spec(apply, params, *inputs, kinds="all")
    return spec, certify(spec, apply, params, *inputs, complete=complete)


def written(spec):
    return dict(zip(spec.paths, map(str, spec.written), strict=True))


# --- one hidden layer: what is between two linear maps ----------------------------------------------------------------


def halves(h):
    return jnp.split(h, 2, axis=-1)


def gated(gate):
    def middle(h):
        one, two = halves(h)
        return gate(one) * two

    return middle


def norm(h, eps=0.0):
    return h * lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + eps)


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
    "largest so far": (lambda h: lax.cummax(h, 0), "scale", "h0", "h0^-1"),
    "summed as a tree": (lambda h: lax.associative_scan(jnp.add, h), "linear", "h0", "h0^-1"),
    "rows added": (lambda h: jnp.zeros_like(h).at[jnp.array([0, 0, 1])].add(h), "linear", "h0", "h0^-1"),
    "rows replaced": (lambda h: lax.dynamic_update_slice(h, 3 * h[:1], (2, 0)), "linear", "h0", "h0^-1"),
    "cond": (
        lambda h: lax.cond(X.sum() > 1, jax.nn.relu, lambda z: jnp.minimum(z, 0), h),
        "scale",
        "h0",
        "h0^-1",
    ),
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
    "a branch is one": lambda h: lax.cond(X.sum() > 1, lambda z: jnp.ones_like(z), lambda z: z, h) * h + h,
    "sum of powers": lambda h: h / jnp.sum(h**3, -1, keepdims=True),
}


@pytest.mark.parametrize("name", PERMUTED)
def test_where_nothing_but_the_order_is_free(name):
    params = weights(up=(5, 6), down=(6, 2), one=(5, 4), two=(4, 2))
    # where no group has more nothing is probed
    apply = lambda p, x: (PERMUTED[name](x @ p["up"]) @ p["down"], jax.nn.relu(x @ p["one"]) @ p["two"])
    spec, certificate = inferred(apply, params, X)
    assert written(spec) == {"['down']": "h0, _", "['one']": "_, h1", "['two']": "h1^-1, _", "['up']": "_, h0"}
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "scale"}
    assert "no " in spec.bounds["h0"] and "test_kinds.py:" in spec.bounds["h0"]
    assert not certificate.missed


def test_what_one_piece_of_a_function_allows_is_not_free():
    """Of steps to one side alone some stay where the sum has one sign, at every point."""
    params = weights(up=(5, 6), down=(6, 2), one=(5, 4), two=(4, 2))
    apply = lambda p, x: (PERMUTED["the sum decides"](x @ p["up"]) @ p["down"], jax.nn.relu(x @ p["one"]) @ p["two"])
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

    inferred(apply, weights(one=(5, 6), two=(5, 6), down=(12, 2)), X, complete=False)


# --- programs with more parameters ------------------------------------------------------------------------------------

PROGRAMS = {}


def program(kinds, **arrays):
    """Register a function of parameters and inputs; `arrays` are the shapes with the axes that must be found."""

    def register(function):
        PROGRAMS[function.__name__] = function, kinds, arrays
        return function

    return register


UP, DOWN = ((5, 6), "_, h0"), ((6, 2), "h0, _")
READ = (6, 2), "h0^-1, _"


@program("sign", up=UP, c=((6,), "h0^0"), down=DOWN)
def clipped_to_its_own_size(p, x):
    most = jnp.exp(p["c"])
    return jnp.clip(x @ p["up"], -most[None], most[None]) @ p["down"]


@program("scale", up=UP, c=((6,), "h0"), down=READ)
def clipped_to_what_may_be_negative(p, x):
    """Then it is that number, with whichever sign."""
    return jnp.clip(x @ p["up"], -p["c"][None], p["c"][None]) @ p["down"]


@program("scale", up=UP, rec=((6, 6), "h0^-1, h0"), down=READ)
def recurrent_relu(p, x):
    h = x @ p["up"]
    return lax.fori_loop(0, 3, lambda _, z: jax.nn.relu(z @ p["rec"] + h), jnp.zeros_like(h)) @ p["down"]


@program("sign", up=((5, 6), "_, h0"), rec=((6, 6), "h0, h0"), down=DOWN)
def symmetric_recurrence(p, x):
    h, both = x @ p["up"], p["rec"] + p["rec"].T
    return lax.fori_loop(0, 3, lambda _, z: jnp.tanh(z @ both + h), jnp.zeros_like(h)) @ p["down"]


@program("scale", up=((5, 6), "_, h0"), rec=((6, 6), "h0^-1, h0^-1"), down=DOWN)
def symmetric_matrix(p, x):
    return jax.nn.relu((x @ p["up"]) @ (p["rec"] + p["rec"].T)) @ p["down"]


@program("linear", up=UP, rec=((6, 6), "h0^-1, h0"), down=READ)
def polynomial_of_a_matrix(p, x):
    h = x @ p["up"]
    return (h + h @ p["rec"] + h @ p["rec"] @ p["rec"] / 2) @ p["down"]


@program("linear linear", a=((5, 4), "_, h0"), c=((4, 6), "h0^-1, h1"), b=((6, 2), "h1^-1, _"))
def linear_bottlenecks(p, x):
    return x @ p["a"] @ p["c"] @ p["b"]


@program("linear", a=((5, 3), "_, h0"), b=((3, 2), "h0^-1, _"), w=((5, 2), "_, _"))
def low_rank(p, x):
    return x @ (p["w"] + p["a"] @ p["b"])


@program("sign", up=((5, 6), "_, 2*h0"), down=((6, 2), "2*h0, _"), part=((3, 2), "h0^0, _"))
def halves_of_units_that_are_tied(p, x):
    h = x @ p["up"]
    both = h.reshape(3, 2, 3)
    apart = (both - both.mean(1, keepdims=True)).reshape(3, 6) + h
    one, two = jnp.split(h, 2, 1)
    return apart @ p["down"] + (one * jnp.tanh(two)) @ p["part"]


@program("monomial", a=((5, 3), "_, h0^1:0"), b=((3, 2), "h0^-1:-1, _"), c=((3,), "h0^0:1"))
def singular_values(p, x):
    return (x @ p["a"]) * p["c"][None] @ p["b"]


@program("linear", a=((5, 4), "_, h0"), c=((4, 4), "h0^-1, h0^-1"))
def quadratic(p, x):
    h = x @ p["a"]
    return jnp.einsum("bi,ij,bj->b", h, p["c"], h)


@program("linear orthogonal", a=((5, 4), "_, h0"), b=((4, 2), "h0, _"), c=((4, 6), "h0^-1, h1"))
def gram(p, x):
    return x @ p["a"] @ (p["c"] @ p["c"].T) @ p["b"]


@program("permutation", a=((5, 4), "_, h0"), b=((4, 2), "h0, _"), c=((4, 4), "h0, h0"))
def beside_the_identity(p, x):
    return x @ p["a"] @ (jnp.eye(4) + p["c"]) @ p["b"]


@program("orthogonal", up=((5, 6), "_, h0"), down=DOWN)
def penalised(p, x):
    return x @ p["up"] @ p["down"], jnp.sum(p["up"] ** 2)


@program("scale", up=UP, down=READ)
def path_norm(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"], jnp.sum(p["up"] ** 2 @ p["down"] ** 2)


@program("permutation", up=((5, 6), "_, h0"), down=DOWN)
def one_array_with_two_powers(p, x):
    h = x @ p["up"]
    return jax.nn.relu(h) @ p["down"] + h**2 @ p["down"]


@program("permutation", up=((5, 6), "_, h0"))
def tied_autoencoder(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["up"].T


@program("orthogonal", up=((5, 6), "_, h0"))
def tied_linear_autoencoder(p, x):
    return x @ p["up"] @ p["up"].T


@program("orthogonal", embedding=((7, 6), "_, h0"))
def tied_embedding(p, x):
    return norm(p["embedding"][jnp.array([0, 3, 2])], 1e-5) @ p["embedding"].T


@program("scale", v=((5, 6), "_, h0"), down=((6, 2), "h0^0, _"))
def weight_norm(p, x):
    return jax.nn.relu(x @ (p["v"] / jnp.linalg.norm(p["v"], axis=0, keepdims=True))) @ p["down"]


@program(
    "monomial", b=((6,), "h0^1:1~0"), down=((6, 2), "h0^-1:-1~0, _"), g=((6,), "h0^0:1~1"), up=((5, 6), "_, h0^1:0~1")
)
def gain_and_bias(p, x):
    return jax.nn.relu(x @ p["up"] * p["g"][None] + p["b"][None]) @ p["down"]


@program("monomial", down=((6, 2), "h0^-1~1:1, _"), g=((6,), "h0^1~0:1"), up=((5, 6), "_, h0^0~1:0"))
def norm_with_gain(p, x):
    return norm(x @ p["up"], 1e-5) * p["g"][None] @ p["down"]


@program("monomial", down=READ, f=((6,), "h0^-1"), up=UP)
def snake(p, x):
    h = x @ p["up"]
    return (h + jnp.sin(h * p["f"][None]) ** 2 / p["f"][None]) @ p["down"]


@program("scale", down=READ, t=((6,), "h0"), up=UP)
def thresholds(p, x):
    h = x @ p["up"]
    return jnp.where(h > p["t"][None], h, 0) @ p["down"]


@program("monomial monomial", a=((5, 6), "_, h0"), b=((5, 6), "_, h1"), down=((12, 2), "h0^-2 + h1^-4, _"))
def two_groups_side_by_side(p, x):
    h = jnp.concatenate([x @ p["a"], (x @ p["b"]) ** 2], -1)
    return h * h @ p["down"]


@program("scale", a=((5, 6), "_, h0"), s=((), ""), down=((6, 2), "h0^-1, _"))
def one_factor_for_all(p, x):
    return jax.nn.relu(x @ p["a"] * p["s"]) @ p["down"]


@program("linear linear", k=((5, 6), "_, h0^-1"), q=((5, 6), "_, h0"), v=((5, 4), "_, h1"), o=((4, 2), "h1^-1, _"))
def linear_attention(p, x):
    def turn(memory, row):
        memory = memory + jnp.outer(row[1], row[2])
        return memory, row[0] @ memory

    return lax.scan(turn, jnp.zeros((6, 4)), tuple(x @ p[name] for name in "qkv"))[1] @ p["o"]


@program("orthogonal linear", k=((5, 6), "_, h0"), q=((5, 6), "_, h0"), v=((5, 4), "_, h1"), o=((4, 2), "h1^-1, _"))
def delta_rule(p, x):
    def turn(memory, row):
        memory = memory + jnp.outer(row[1], row[2] - row[1] @ memory)
        return memory, row[0] @ memory

    return lax.scan(turn, jnp.zeros((6, 4)), tuple(x @ p[name] for name in "qkv"))[1] @ p["o"]


THREE = "0: 1, _, h0 | 1, _, h0^-1 | 1, _, h1"


@program("linear linear", qkv=((3, 5, 6), THREE), o=((6, 2), "h1^-1, _"))
def rows_for_queries_keys_values(p, x):
    q, k, v = (x @ p["qkv"][n] for n in range(3))
    return jax.nn.softmax(q @ k.T) @ v @ p["o"]


@program("linear linear", qkv=((3, 5, 6), THREE), o=((6, 2), "h1^-1, _"))
def rows_taken_apart(p, x):
    q, k, v = jnp.unstack(jnp.einsum("bi,kih->kbh", x, p["qkv"]))
    return jax.nn.softmax(q @ k.T) @ v @ p["o"]


FUSED = "h0*h1 + h0*h1^-1 + h0*h2"


@program("permutation linear linear", b=((18,), FUSED), o=((6, 2), "h0*h2^-1, _"), qkv=((5, 18), f"_, {FUSED}"))
def one_kernel_read_as_three(p, x):
    q, k, v = jnp.moveaxis((x @ p["qkv"] + p["b"][None]).reshape(3, 3, 2, 3), 1, 0)
    scores = jax.nn.softmax(jnp.einsum("bhd,chd->hbc", q, k))
    return jnp.einsum("hbc,chd->bhd", scores, v).reshape(3, 6) @ p["o"]


@program("permutation scale", r=((5, 4), "_, h0"), e=((4, 5, 6), "h0, _, h1"), d=((4, 6, 2), "h0, h1^-1, _"))
def experts(p, x):
    gates, h = jax.nn.softmax(x @ p["r"]), jax.nn.relu(jnp.einsum("bi,eih->beh", x, p["e"]))
    return jnp.einsum("beh,eho,be->bo", h, p["d"], gates)


@program("orthogonal permutation", a=((5, 6), "_, h0"), codes=((4, 6), "h1, h0"), down=((6, 2), "h0, _"))
def nearest_code(p, x):
    h = x @ p["a"]
    nearest = jnp.argmin(jnp.sum((h[:, None] - p["codes"][None]) ** 2, -1), -1)
    return (p["codes"][nearest] + h) @ p["down"]


@program("scale", f=((3, 5, 6), "_, _, h0^1:0"), g=((3, 1, 6), "_, _, h0^0:1"), down=((6, 2), "h0^-1:-1, _"))
def depthwise(p, x):
    def convolve(x, w, groups=1):
        dims = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=dims, feature_group_count=groups)

    h = jax.nn.relu(convolve(jnp.stack([x, 2 * x[::-1]]), p["f"]))
    return jax.nn.relu(convolve(h, p["g"], 6)).mean(1) @ p["down"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    apply, kinds, arrays = PROGRAMS[name]
    params = weights(**{name: shape for name, (shape, _) in arrays.items()})
    spec, certificate = inferred(apply, params, X)
    assert written(spec) == {f"['{name}']": axes for name, (_, axes) in arrays.items()}
    assert " ".join(spec.kinds.values()) == kinds
    assert not certificate.missed


# --- whole numbers, truth values, complex numbers ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, bool])
def test_what_has_no_fractions_carries_no_factors(dtype):
    """Quantised weights with their scales, and masks: what an element makes of them are whole numbers again."""
    whole = np.random.default_rng(0).integers(-9, 9, (5, 6)).astype(dtype)
    params = {"q": whole, **weights(down=(6, 2), s=(6,))}
    apply = lambda p, x: jax.nn.relu(x @ (p["q"].astype(np.float32) * p["s"][None])) @ p["down"]
    spec, certificate = inferred(apply, params, X)
    assert written(spec) == {"['down']": "h0^-1, _", "['q']": "_, h0^0", "['s']": "h0"} and not certificate.missed
    linear = lambda p, x: x @ p["q"].astype(np.float32) @ p["down"]
    params = {"q": whole, "down": params["down"]}
    spec = infer_spec(linear, params, X, kinds="all")
    certify(spec, linear, params, X)
    assert dict(spec.kinds) == {"h0": "permutation"}


COMPLEX = {
    "nothing": (lambda h: h, "linear"),
    "conjugate": (jnp.conj, "linear"),
    "norm": (lambda h: h / jnp.sqrt(jnp.sum((h * h.conj()).real, -1, keepdims=True)), "orthogonal"),
    "square": (lambda h: h * h, "monomial"),
    "root": (jnp.sqrt, "scale"),
    "relu of both parts": (lambda h: lax.complex(jax.nn.relu(h.real), jax.nn.relu(h.imag)), "scale"),
    "tanh": (jnp.tanh, "sign"),
    "exp": (jnp.exp, "permutation"),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_have_real_factors(name):
    middle, kind = COMPLEX[name]
    rng = np.random.default_rng(0)
    draw = lambda *shape: (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    params = {"up": draw(5, 6), "down": draw(6, 2)}
    spec, certificate = inferred(lambda p, x: middle(x @ p["up"]) @ p["down"], params, X)
    assert dict(spec.kinds) == {"h0": kind} and not certificate.missed


# --- networks, declared by hand ---------------------------------------------------------------------------------------


def declared(spec, kinds, powers):
    """A spec of permutations with larger kinds: for parts of paths the axes there."""
    leaves = []
    for path, axes in zip(spec.paths, spec.leaves, strict=True):
        named = [text for part, text in powers.items() if path.endswith(part)]
        leaves.append(Axes.parse(named[0]) if named else axes)
    sizes, batch, fixed = spec.sizes, spec.batch, spec.fixed
    return PermutationSpec(spec.treedef.unflatten(leaves), sizes, batch=batch, fixed=fixed, kinds=kinds)


def dense(layer, before, after):
    return {f"['{layer}']['kernel']": f"{before}, {after}", f"['{layer}']['bias']": after}


def gates(units, before, cell, names, biases):
    """Of a recurrent layer; sigmoids see no sign, which the state keeps."""
    out = {}
    for gate, power in names.items():
        at = f"{units}^{power}"
        out |= {
            f"['{cell}']['i{gate}']['kernel']": f"{before}, {at}",
            f"['{cell}']['h{gate}']['kernel']": f"{units}, {at}",
        }
        out |= {f"['{cell}']['{bias}{gate}']['bias']": at for bias in biases}
    return out


def batch_norm(units, layer, conv, before):
    """What is before the normalisation with the mean that was measured there, and the gain, each with all behind it."""
    return {
        f"['{layer}']['mean']": f"{units}^1:0~1",
        f"['{layer}']['var']": f"{units}^0:0~0",
        f"['{layer}']['bias']": f"{units}^1:1~0",
        f"['{layer}']['scale']": f"{units}^0:1~1",
        f"['{conv}']['kernel']": f"_, _, {before}, {units}^1:0~1",
    }


MLP_KINDS = dict(a="scale", b="scale")
MLP_POWERS = dense("dense_1", "a^-1", "b") | {"['dense_2']['kernel']": "b^-1, _"}
SPLIT = "a^0 + a^0 + a + a^0", "b^0 + b^0 + b + b^0"
DECLARED = {
    "mlp": (MLP_KINDS, MLP_POWERS),
    "siren": (dict(a="sign", b="sign"), {}),
    "cnn": (
        dict(c0="scale", c1="scale", d0="scale"),
        {
            "['conv_1']['kernel']": "_, _, c0^-1, c1",
            "['dense_0']['kernel']": "6*c1^-1, d0",
            "['dense_1']['kernel']": "d0^-1, _",
        },
    ),
    "vgg": (
        dict.fromkeys("abcd", "scale"),
        {
            "['conv_0_1']['kernel']": "_, _, a^-1, b",
            "['conv_1_0']['kernel']": "_, _, b^-1, c",
            "['dense_0']['kernel']": "4*c^-1, d",
            "['dense_1']['kernel']": "d^-1, _",
        },
    ),
    "vgg_batch": (
        dict.fromkeys("abc", "monomial") | {"d": "scale"},
        batch_norm("a", "norm_0_0", "conv_0_0", "_")
        | batch_norm("b", "norm_0_1", "conv_0_1", "a^-1:-1~0")
        | batch_norm("c", "norm_1_0", "conv_1_0", "b^-1:-1~0")
        | {"['dense_0']['kernel']": "4*c^-1:-1~0, d", "['dense_1']['kernel']": "d^-1, _"},
    ),
    "gru": (
        dict(a="sign", b="sign"),
        gates("a", "_", "cell_0", dict(r=0, z=0), "i") | gates("b", "a", "cell_1", dict(r=0, z=0), "i"),
    ),
    "lstm": (
        dict(a="sign", b="sign"),
        gates("a", "_", "cell_0", dict(i=0, f=0, o=0), "h") | gates("b", "a", "cell_1", dict(i=0, f=0, o=0), "h"),
    ),
    "lstm_fused": (
        dict(a="sign", b="sign"),
        {
            "['cell_0']['gates']['kernel']": f"2 + a, {SPLIT[0]}",
            "['cell_0']['gates']['bias']": SPLIT[0],
            "['cell_1']['gates']['kernel']": f"a + b, {SPLIT[1]}",
            "['cell_1']['gates']['bias']": SPLIT[1],
        },
    ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_networks_have_the_kinds_that_are_declared(name):
    case, (kinds, powers) = CASES[name], DECLARED[name]
    # of the two that are the same network the smaller one is probed
    params, complete = randomised(case.module, case.example), name != "lstm"
    spec, certificate = inferred(case.module.apply, params, case.example, complete=complete)
    expected = declared(case.spec, kinds, powers)
    assert correspondence(spec, expected), [str(axes) for axes in spec.written]
    assert not certificate.missed


# --- transformers -----------------------------------------------------------------------------------------------------

HEADS, UNITS, DIM, WIDTH, TOKENS = 2, 3, 6, 5, np.array([[0, 3, 2, 5], [1, 4, 4, 6]])
PARTS = dict(q=(DIM, HEADS, UNITS), k=(DIM, HEADS, UNITS), v=(DIM, HEADS, UNITS), o=(HEADS, UNITS, DIM))
BLOCK = PARTS | dict(up=(DIM, WIDTH), gate=(DIM, WIDTH), down=(WIDTH, DIM))


def attend(p, x, keys=None):
    keys = x if keys is None else keys
    q, k, v = jnp.einsum("bti,ihd->bthd", x, p["q"]), *(jnp.einsum("bti,ihd->bthd", keys, p[n]) for n in "kv")
    scores = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    return jnp.einsum("bhts,bshd,hdo->bto", scores, v, p["o"])


def block(p, x):
    x = x + attend(p, norm(x, 1e-5))
    h = norm(x, 1e-5)
    return x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]


def block_spec(name, layers=""):
    """The residual stream is one space of vectors, so are the bases of queries with keys and of values in each head."""
    head, qk, vo, unit = (f"{name}{part}" for part in ("head", "qk", "vo", "unit"))
    axes = {
        "q": f"r, {head}, {qk}",
        "k": f"r, {head}, {qk}^-1",
        "v": f"r, {head}, {vo}",
        "o": f"{head}, {vo}^-1, r",
        "gate": f"r, {unit}^0",
        "up": f"r, {unit}",
        "down": f"{unit}^-1, r",
    }
    sizes = {head: HEADS, qk: UNITS, vo: UNITS, unit: WIDTH}
    over = (layers,) if layers else ()
    batch = {head: over, qk: (*over, head), vo: (*over, head), unit: over}
    kinds = {qk: "linear", vo: "linear", unit: "monomial"}
    written = {part: Axes.parse(f"{layers}, {text}" if layers else text) for part, text in axes.items()}
    return written, sizes, batch, kinds


def test_a_residual_stream_without_gains_is_orthogonal():
    one, two = weights(**BLOCK), weights(**BLOCK, seed=1)
    params = {"blocks": [one, two], **weights(embedding=(7, DIM), head=(DIM, 4), seed=2)}

    def apply(p, tokens):
        x = p["embedding"][tokens]
        for part in p["blocks"]:
            x = block(part, x)
        return norm(x, 1e-5) @ p["head"]

    spec, certificate = inferred(apply, params, TOKENS)
    parts = [block_spec(name) for name in "ab"]
    axes = {"blocks": [part[0] for part in parts], "embedding": Axes(None, "r"), "head": Axes("r", None)}
    sizes, batch, kinds = ({k: v for part in parts for k, v in part[n].items()} for n in (1, 2, 3))
    expected = PermutationSpec(axes, sizes | {"r": DIM}, batch=batch, kinds=kinds | {"r": "orthogonal"})
    assert correspondence(spec, expected), spec
    assert not certificate.missed


def test_a_scan_over_layers_has_what_its_layers_have():
    layers = {name: np.stack([one, one[::-1] / 2]) for name, one in weights(**BLOCK).items()}
    # tied: what reads the stream is what writes it
    params = {"layers": layers, **weights(embedding=(7, DIM), seed=2)}

    def apply(p, tokens):
        x, _ = lax.scan(lambda x, p: (block(p, x), None), p["embedding"][tokens], p["layers"])
        return norm(x, 1e-5) @ p["embedding"].T

    spec, certificate = inferred(apply, params, TOKENS)
    axes, sizes, batch, kinds = block_spec("a", layers="layer")
    tree = {"layers": axes, "embedding": Axes(None, "r")}
    kinds |= {"r": "orthogonal"}
    expected = PermutationSpec(tree, sizes | {"r": DIM}, batch=batch, fixed={"layer": 2}, kinds=kinds)
    assert correspondence(spec, expected), spec
    assert not certificate.missed


def test_gains_leave_signs_and_scales_of_their_own():
    """With gains the stream keeps signs and orders, and each gain trades with the weights behind it."""
    params = weights(embedding=(7, DIM), gain=(DIM,), last=(DIM,), up=(DIM, WIDTH), down=(WIDTH, DIM), head=(DIM, 4))

    def apply(p, tokens):
        x = p["embedding"][tokens]
        x = x + jax.nn.gelu(norm(x, 1e-5) * p["gain"][None, None] @ p["up"]) @ p["down"]
        return norm(x, 1e-5) * p["last"][None, None] @ p["head"]

    spec, certificate = inferred(apply, params, TOKENS)
    assert written(spec) == {
        "['down']": "h1, h0^0:0~1:0:0",
        "['embedding']": "_, h0^0:0~1:0:0",
        "['gain']": "h0^1:0~0:1:0",
        "['head']": "h0^0:-1~1:0:1, _",
        "['last']": "h0^0:1~0:0:1",
        "['up']": "h0^-1:0~1:1:0, h1",
    }
    assert dict(spec.kinds) == {"h0": "monomial", "h1": "permutation"} and not certificate.missed


ATTENTION = ["transformer_grouped", "transformer_rotary_gated"]


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_has_bases_in_each_head(name):
    """Queries with keys and values with outputs, unless rotary embeddings or shared heads stand between."""
    case, bases, units = CASES[name], dict(qk="linear", vo="linear"), "permutation"
    if "rotary" in name:
        bases, units = dict(vo="linear"), "monomial"
    spec, certificate = inferred(case.module.apply, randomised(case.module, case.example), case.example, complete=False)
    names = correspondence(case.spec, spec.with_kinds())
    found = {mine: spec.kinds[yours] for mine, yours in names.items() if yours in spec.kinds}
    kinds = dict.fromkeys(("heads", "queries"), "permutation") | bases | {"up": units}
    # the stream trades with gains, and with the signs where these are all that is between
    assert found == {g: "monomial" if g == "r" else kinds[g.rpartition("_")[2]] for g in found}
    # the shift of a softmax
    assert all("['key']['bias']" in path for path in certificate.unseen)


PARTS = {
    "the first": (lambda h: h[:, :3], "h0 + h1"),
    "from a fixed start": (lambda h: lax.dynamic_slice_in_dim(h, 3, 3, 1), "h0 + h1"),
    "by fixed numbers": (lambda h: h[:, np.arange(2, 4)], "h0 + h1 + h2"),
    "every other": (lambda h: h[:, ::2], "(h0 & h1)"),
    "a column": (lambda h: h.reshape(3, 3, 2)[..., 1], "(h0 & h1)"),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_have_maps_of_their_own(name):
    take, axes = PARTS[name]
    width = jax.eval_shape(take, jax.ShapeDtypeStruct((3, 6), np.float32)).shape[-1]
    params = weights(up=(5, 6), down=(width, 2), rest=(6, 2))
    apply = lambda p, x: take(x @ p["up"]) @ p["down"] + x @ p["up"] @ p["rest"]
    spec, certificate = inferred(apply, params, X)
    assert str(spec.axes["up"]) == f"_, {axes}" and not certificate.missed
    assert set(spec.kinds.values()) == {"linear"}


def test_grouped_convolutions_have_factors_in_each_group():
    conv = lambda x, kernel, groups: lax.conv_general_dilated(
        x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=groups
    )

    def apply(p, x):
        h = jax.nn.relu(conv(x, p["up"], 1))
        return conv(jax.nn.relu(conv(h, p["grouped"], 3)), p["down"], 1)

    params, x = weights(up=(3, 5, 12), grouped=(3, 4, 6), down=(3, 6, 2)), drawn.normal(2, 7, 5)
    spec, certificate = inferred(apply, params, x)
    assert written(spec) == {
        "['down']": "_, h0*h2^-1, _",
        "['grouped']": "_, h1^-1, h0*h2",
        "['up']": "_, _, h0*h1",
    }
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "scale", "h2": "scale"} and not certificate.missed


def test_keys_without_a_bias_of_their_own():
    def apply(p, x, keys=jnp.zeros_like, values=lambda v: v):
        bias = jnp.concatenate([p["q"], keys(p["q"]), values(p["v"])])
        q, k, v = jnp.moveaxis((x @ p["qkv"] + bias[None, None]).reshape(*x.shape[:2], 3, 2, 3), 2, 0)
        seen = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k))
        return jnp.einsum("bhqk,bkhd,hdo->bqo", seen, v, p["o"])

    params, x = weights(qkv=(5, 18), q=(6,), v=(6,), o=(2, 3, 2)), drawn.normal(2, 4, 5)
    spec, certificate = inferred(apply, params, x)
    assert dict(spec.kinds) == {"h0": "permutation", "h1": "linear", "h2": "linear"} and not certificate.missed
    assert written(spec)["['q']"] == "h0*h1" and written(spec)["['qkv']"] == "_, h0*h1 + h0*h1^-1 + h0*h2"
    ones = inferred(lambda p, x: apply(p, x, keys=jnp.ones_like), params, x)[0]
    assert ones.kinds["h1"] == "permutation" and ones.kinds["h2"] == "linear"
    cosine = inferred(lambda p, x: apply(p, x, values=jnp.zeros_like), params, x)[0]
    assert cosine.kinds["h1"] == cosine.kinds["h2"] == "linear"


# --- what is wrong, and what is missed, is told -----------------------------------------------------------------------


def two_layers(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"]


def spec_of(kind, up="h", down="h"):
    return PermutationSpec({"up": Axes(None, up), "down": Axes(down, None)}, {"h": 6}, kinds={"h": kind})


@pytest.mark.parametrize(
    "wrong",
    [
        spec_of("scale"),
        spec_of("scale", down="h^-2"),
        spec_of("sign"),
        spec_of("monomial", down="h^-1"),
        spec_of("orthogonal"),
        spec_of("linear", down="h^-1"),
    ],
    ids=lambda spec: str(spec.written[0]) + spec.kinds["h"],
)
def test_a_wrong_kind_or_power_is_no_symmetry(wrong):
    with pytest.raises(CertificateError, match="'h'"):
        certify(wrong, two_layers, weights(up=(5, 6), down=(6, 2)), X)


@pytest.mark.parametrize(
    ("middle", "spec", "missed"),
    [
        (lambda h: h, spec_of("orthogonal"), {"scales", "maps"}),
        (lambda h: h, spec_of("scale", down="h^-1"), {"maps", "signs"}),
        (jnp.abs, spec_of("scale", down="h^-1"), {"signs"}),
        (jnp.abs, spec_of("sign", up="h", down="h^0"), {"scales"}),
        (norm, spec_of("sign"), {"maps"}),
        (lambda h: h**2, spec_of("sign", up="h", down="h^0"), {"scales"}),
        (jax.nn.relu, spec_of("scale", down="h^-1"), set()),
        (jnp.tanh, spec_of("sign"), set()),
    ],
)
def test_numbers_show_what_a_declared_kind_misses(middle, spec, missed):
    apply = lambda p, x: middle(x @ p["up"]) @ p["down"]
    certificate = certify(spec, apply, weights(up=(5, 6), down=(6, 2)), X, complete=True)
    text = " ".join(note.why for note in certificate.missed)
    assert {what for what in ("scales", "maps", "signs") if f"more {what}" in text} == missed
    assert all(
        "['up']" in note.why and "['down']" in note.why for note in certificate.missed if "signs" not in note.why
    )


def test_one_of_two_directions_is_missed():
    axes = {"one": Axes(None, "h"), "two": Axes(None, "h^0"), "down": Axes("h^-1", None)}
    spec = PermutationSpec(axes, {"h": 6}, kinds={"h": "monomial"})
    apply = lambda p, x: (x @ p["one"]) * (x @ p["two"]) @ p["down"]
    params = weights(one=(5, 6), two=(5, 6), down=(6, 2))
    found = [note.why for note in certify(spec, apply, params, X, complete=True).missed]
    assert len(found) == 2 and "scales are (1)" in found[0] and "signs are (1)" in found[1]
    assert all("['two']" in why for why in found)
    # nothing is asked of specs that have orders alone
    assert not certify(spec.with_kinds(), apply, params, X, complete=True).missed


def test_what_the_rules_do_not_know_is_found_on_numbers():
    """Padding with zeros leaves the units that it adds to as free as they were."""
    params = weights(up=(5, 6), skip=(5, 8), down=(8, 2))
    apply = lambda p, x: jax.nn.relu(jnp.pad(x @ p["up"], ((0, 0), (0, 2))) + x @ p["skip"]) @ p["down"]
    spec, certificate = inferred(apply, params, X)
    assert dict(spec.kinds) == {"h0": "scale", "h1": "permutation"}
    (note,) = certificate.missed
    assert "group 'h1'" in note.why and "scales are (1), on ['down'], ['skip']" in note.why


def test_a_batched_group_is_probed_at_one_index():
    """Values of linear attention: declared as scales they are maps."""
    axes = {"v": Axes(None, "head", "d"), "o": Axes("head", "d^-1", None)}
    params = weights(v=(5, 3, 2), o=(3, 2, 4))
    apply = lambda p, x: jnp.einsum("bi,ihd,hdo->bo", x, p["v"], p["o"])
    for kind, missed in ("scale", 2), ("linear", 0):
        kinds = {"d": kind}
        spec = PermutationSpec(axes, {"head": 3, "d": 2}, batch={"d": ("head",)}, kinds=kinds)
        found = [note for note in certify(spec, apply, params, X, complete=True).missed if "more" in note.why]
        assert len(found) == missed and all("group 'd'" in note.why and note.dimension < 3 for note in found)
