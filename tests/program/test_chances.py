"""Which units can be told apart by a score of each: what is claimed holds on numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.program import infer_spec
from dwalign.program.inference import read_program
from tests import drawn

X = drawn.normal(100, 5)
WEIGHTS = drawn.named(up=(5, 4), down=(4, 2))
still = lax.stop_gradient
rows = lambda h: h.sum(1, keepdims=True)
slope = lambda of: lambda h: jax.grad(lambda z: of(z).sum())(h)
single = lambda of: lambda h: of(h[..., None])[..., 0]

SAME = {
    "power": lambda h: h * (h * h) ** -0.5,
    "power of the magnitude": lambda h: h * jnp.abs(h) ** -1.0,
    "cubes": lambda h: h**3 * jnp.abs(h) ** -3,
    "logarithm": lambda h: h * jnp.exp(-0.5 * jnp.log(h * h)),
    "fourth root": lambda h: h / (h**4) ** 0.25,
    "computed twice": lambda h: jnp.sin(h) / jnp.abs(jnp.sin(h)),
    "norm of one": single(lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True)),
    "share of one": single(jax.nn.softmax),
    "past a bound": lambda h: h * (1 / jnp.maximum(jnp.abs(h), 1e-3)),
    "far past a bound": lambda h: jnp.clip(h, -2000.0, 2000.0) + 0 * h,
    "of either piece": lambda h: h + jnp.where(h > 0, 1 - h, 0),
    "next multiple": lambda h: h - jnp.mod(h, 1.0),
    "rounded, scaled": lambda h: 0.5 * (2 * h + still(jnp.round(2 * h) - 2 * h)),
    "few bits": lambda h: jnp.round(h * 4).astype(jnp.int8).astype(jnp.float32),
    "floats of few bits": lambda h: h.astype(jnp.float8_e4m3fn).astype(jnp.float32),
    "reduced precision": lambda h: lax.reduce_precision(h, 8, 1),
    "signs in exponents": lambda h: jnp.exp(jnp.sign(h)),
    "inverse exponents": lambda h: jnp.exp(h) * jnp.exp(-h) * rows(h),
    "sine and cosine": lambda h: jnp.sin(h) ** 2 + jnp.cos(h) ** 2,
    "sigmoids": lambda h: jax.nn.sigmoid(h) + jax.nn.sigmoid(-h),
    "no power": lambda h: jnp.power(h * h, 0.0),
    "power of one": lambda h: jnp.power(1.0, h),
    "angle": lambda h: jnp.angle(h + 0j),
    "a ramp's slope": slope(jax.nn.relu),
    "magnitude's slope": slope(jnp.abs),
    "Huber's slope": slope(lambda z: jnp.where(jnp.abs(z) < 0.3, 0.5 * z * z, 0.3 * jnp.abs(z))),
    "infinite": lambda h: jnp.where(h > 0, jnp.inf, h),
    "beside the largest row": lambda h: h / jnp.abs(h).max(0, keepdims=True),
    "signs of rows": lambda h: h / jnp.linalg.norm(h[:1], axis=0, keepdims=True),
    "turns of a loop": lambda h: lax.fori_loop(0, 3, lambda _, c: jnp.clip(2 * c, -1, 1), h),
    "in a branch": lambda h: lax.cond(h.sum() > 0, lambda z: z, jnp.sign, h),
    "signs of a loop's rows": lambda h: lax.scan(lambda c, row: (c, row), 0, jnp.sign(h))[1],
    "shares of rows summed": lambda h: (jax.nn.softmax(h, 0) * rows(h)[:1]).sum(0, keepdims=True) + 0 * h,
    "a real entry of a spectrum": lambda h: jnp.fft.rfft(h, axis=0).imag,
    "a triangle": lambda h: jnp.linalg.cholesky(jnp.eye(3)[None] + h.T[:, :3, None] * h.T[:, None, :3])[:, 0, 1:].T,
    "signs summed": lambda h: jnp.sign(h) @ jnp.eye(4),
}
ZEROS = {
    "half": lambda h: h - jax.nn.relu(h),
    "half, shifted": lambda h: (h + 1.5) - jax.nn.relu(h) - 1.5,
    "magnitude": lambda h: jnp.abs(h) + h,
    "root of the square": lambda h: jnp.sqrt(h * h) - h,
    "both halves": lambda h: jnp.maximum(h, 0) + jnp.minimum(h, 0) - h,
    "rows": lambda h: h * (1.0 - (rows(h) > 0)),
    "signs of rows": lambda h: h * (1 + jnp.sign(rows(h))),
    "bounded rows": lambda h: h * (1 - jnp.clip(rows(h), 0, 1)),
    "shrunk": lambda h: h - jnp.clip(h, -0.5, 0.5),
    "hinge": lambda h: jnp.maximum(0, 1 - h) ** 2,
    "distance to the larger row": lambda h: jnp.repeat(h.reshape(-1, 2, 4).max(1), 2, 0) - h,
    "square": lambda h: (jax.nn.relu(h) - h) ** 2,
    "computed otherwise": lambda h: jnp.logaddexp(h, -h) - jnp.log(2 * jnp.cosh(h)),
    "slope of a square": lambda h: slope(jnp.square)(h) - 2 * h,
    "products of products": lambda h: (h * (rows(h) > 0)) @ (h.T @ h) @ (h.T @ h),
    "rows beside zeros": lambda h: h * jnp.concatenate([rows(h)[:50], jnp.zeros((50, 1))]),
    "rows put into zeros": lambda h: h * jnp.zeros((100, 1)).at[jnp.arange(50) * 2].add(rows(h)[:50]),
    "rows in another order": lambda h: h * lax.sort((rows(h)[::-1], jax.nn.relu(rows(h))), 0, num_keys=1)[1],
    "a loop that takes no turn": lambda h: lax.while_loop(lambda c: c.sum() > 1e4, lambda c: c + h, jnp.zeros_like(h)),
    "handed through a barrier": lambda h: lax.optimization_barrier((rows(h), h))[1] - h,
}
APART = {
    "cube over magnitude": lambda h: h**3 / jnp.abs(h),
    "exponential unit": jax.nn.elu,
    "hypotenuse": lambda h: jnp.hypot(h, 1.0),
    "difference of ramps": lambda h: jax.nn.relu(h) - jax.nn.relu(-h),
    "of rows": lambda h: (h - h.mean(0, keepdims=True)) / (1e-3 + h.std(0, keepdims=True)),
    "gate": lambda h: jax.nn.mish(h) * jax.nn.sigmoid(rows(h)),
    "saturated": lambda h: jnp.tanh(20 * h) + jax.scipy.special.erf(9 * h),
    "logarithm of a sum": lambda h: jax.nn.logsumexp(h, 0, keepdims=True) + h,
    "rounded in part": lambda h: h + jnp.round(h) / 8,
    "in half precision": lambda h: jax.nn.gelu(h.astype(jnp.bfloat16)).astype(jnp.float32),
    "a share": jax.nn.softmax,
    "normalised": lambda h: h * lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-6),
    "products": lambda h: jnp.tanh(h) @ (h.T @ h) @ (h.T @ h),
    "rows one above the other": lambda h: h * jnp.concatenate([rows(h)[:50], rows(h)[:50]]),
    "states": lambda h: lax.scan(lambda c, row: (jnp.tanh(c + row), c + row), jnp.zeros(4), h)[1],
    "a large shift": lambda h: h - 1e6 * (rows(h) > 0),
}
# the same in exact arithmetic, or not
INEXACT = {"saturated", "in half precision", "far past a bound"}
SCORES = {kind: of for kind, of in zip(("same", "zeros", "apart"), (SAME, ZEROS, APART), strict=True)}


def first(scores, down):
    return down[jnp.argmax(scores, -1)]


def put_back(scores, down):
    values, at = lax.top_k(scores, 2)
    return jnp.zeros_like(scores).at[jnp.arange(len(scores))[:, None], at].set(values) @ down


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, of in SCORES.items() for name in of])
def test_units_are_told_apart_where_their_numbers_differ(kind, name):
    """Zeros are put back among zeros whichever they are; for all else the largest has to be the only one."""
    score = SCORES[kind][name]
    with jax.enable_x64(True), np.errstate(all="ignore"):
        numbers = np.asarray(score(np.float64(X) @ np.float64(WEIGHTS["up"])), float)
    pairs = [(numbers[:, i], numbers[:, j]) for i in range(4) for j in range(i)]
    tied = np.concatenate([u[np.isclose(u, v, 1e-9, 1e-9)] for u, v in pairs])
    assert name in INEXACT or (len(tied) > 0) == (kind != "apart")
    assert kind != "zeros" or np.allclose(tied, 0)
    for use, free in ((first, kind == "apart"), (put_back, kind != "same")):
        spec = infer_spec(lambda p, x, use=use: use(score(x @ p["up"]), p["down"]), WEIGHTS, X)
        assert bool(spec.sizes) == free


def test_what_is_asked_of_deep_networks_grows_with_their_depth():
    """Each block routes by what all blocks before it have added up."""

    def asked(depth):
        names = [(f"r{k}", f"u{k}", f"d{k}") for k in range(depth)]
        shapes = {name: shape for block in names for name, shape in zip(block, ((6, 4), (6, 5), (5, 6)), strict=True)}

        def apply(p, x):
            for router, up, down in names:
                most = jnp.argmax(x @ p[router], -1)
                x = x + jnp.tanh(x @ p[up]) @ p[down] + p[router].T[most]
            return x

        facts = read_program(apply, drawn.named(**shapes), drawn.normal(3, 6)).facts
        return len(facts.silent) + len(facts.often)

    assert asked(6) - asked(4) == asked(4) - asked(2)
