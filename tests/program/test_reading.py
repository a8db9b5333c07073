"""In which order layers read the dimensions of their weights, however these are stored and turned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import infer_spec
from tests import drawn

X = drawn.normal(2, 8)
PICTURES = drawn.normal(2, 5, 6, 3)
conv = lambda x, w, spec: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", spec, "NHWC"))
over = lambda f: lambda w, x: jax.lax.scan(lambda h, one: (f(one, h), None), x, w)[0]
READ = {
    "[in, out]": ((8, 4), lambda w, x: x @ w, None),
    "[out, in]": ((4, 8), lambda w, x: x @ w.T, (1, 0)),
    "as the left operand": ((4, 8), lambda w, x: (w @ x.T).T, (1, 0)),
    "batched": ((4, 8), lambda w, x: jax.vmap(lambda row: w @ row)(x), (1, 0)),
    "inside of jit": ((4, 8), jax.jit(lambda w, x: x @ w.T), (1, 0)),
    "in another precision": ((4, 8), lambda w, x: x @ w.astype(jnp.bfloat16).T.astype(jnp.float32), (1, 0)),
    "scaled": ((4, 8), lambda w, x: x @ (w / jnp.linalg.norm(w)).T, (1, 0)),
    "heads": ((2, 3, 8), lambda w, x: jnp.einsum("bi,hdi->bhd", x, w), (2, 0, 1)),
    "heads made flat": ((2, 3, 8), lambda w, x: x @ w.reshape(6, 8).T, (2, 0, 1)),
    "flat as heads": ((6, 8), lambda w, x: jnp.einsum("bi,hdi->bhd", x, w.reshape(2, 3, 8)), (1, 0)),
    "pieces": ((6, 8), lambda w, x: sum(x @ one.T for one in jnp.split(w, 2)), (1, 0)),
    "layers": ((3, 8, 8), over(lambda w, h: jnp.tanh(h @ w.T)), (0, 2, 1)),
    "layers, [in, out]": ((3, 8, 8), over(lambda w, h: jnp.tanh(h @ w)), None),
    "experts": ((3, 4, 8), lambda w, x: jax.lax.ragged_dot(x, w.swapaxes(1, 2), jnp.array([1, 0, 1])), (0, 2, 1)),
    "HWIO": ((3, 3, 3, 4), lambda w, x: conv(PICTURES * x[0, 0], w, "HWIO"), None),
    "OIHW": ((4, 3, 3, 3), lambda w, x: conv(PICTURES * x[0, 0], w, "OIHW"), (2, 3, 1, 0)),
    "OIHW, turned": (
        (4, 3, 3, 3),
        lambda w, x: conv(PICTURES * x[0, 0], w.transpose(2, 3, 1, 0), "HWIO"),
        (2, 3, 1, 0),
    ),
    "read twice, first across": ((8, 8), lambda w, x: (x @ w.T) @ w, (1, 0)),
    "of two arrays": ((4, 8), lambda w, x: x @ (jnp.eye(4) @ w).T, None),
    "no layer": ((8,), lambda w, x: x * w[None], None),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_summed_comes_before_what_is_made(name):
    shape, apply, order = READ[name]
    weights = {"w": drawn.normal(*shape), "unused": np.ones(2, np.float32)}
    spec = infer_spec(lambda params, x: apply(params["w"], x), weights, X)
    assert dict(spec.reading) == ({} if order is None else {"['w']": order})


def test_what_follows_an_array_is_read_like_it():
    params = {"params": {"up": np.ones((6, 8), "f"), "down": np.ones((3, 6), "f")}}
    state = params | {"mu": params["params"]}
    spec = infer_spec(lambda p, x: jnp.tanh(x @ p["params"]["up"].T) @ p["params"]["down"].T, state, X)
    assert set(spec.reading) == {f"['{tree}']['{name}']" for tree in ("params", "mu") for name in ("up", "down")}
