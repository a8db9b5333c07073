"""Where the walk says that values are zero along a dimension, they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.program.inference.kinds.unknowns import Unknowns
from dwalign.program.inference.kinds.zeros import note_zeros, zeros
from dwalign.program.inference.walk import OUTPUT, walk_program
from tests import drawn

X, W = drawn.normal(3, 4), drawn.normal(6, 5)


def beside(x):
    """Two columns of zeros beside four of other numbers."""
    return jnp.concatenate([x, jnp.zeros((3, 2))], 1)


def convolved(x, channels, groups):
    kernel = jnp.asarray(drawn.normal(2, 6 // groups, channels))
    dims = ("NWC", "WIO", "NWC")
    return lax.conv_general_dilated(x[None], kernel, (1,), "SAME", dimension_numbers=dims, feature_group_count=groups)


# a function of a value, and the dimension with the positions at which the result is zero; None for nowhere
FUNCTIONS = {
    "sine": (jnp.sin, 1, [4, 5]),
    "cosine": (jnp.cos, 1, None),
    "power": (lambda v: v**3 - v, 1, [4, 5]),
    "power below": (lambda v: v**-2, 1, None),
    "shift": (lambda v: v + 1, 1, None),
    "factor": (lambda v: 3 * v, 1, [4, 5]),
    "factors": (lambda v: v * jnp.cos(v), 1, [4, 5]),
    "over": (lambda v: v / jnp.cosh(v), 1, [4, 5]),
    "under": (lambda v: jnp.cosh(v) / (1 + v), 1, None),
    "sum": (lambda v: v + v[::-1], 1, [4, 5]),
    "a row for all": (lambda v: v[:1] * jnp.cosh(v), 1, [4, 5]),
    "a column for all": (lambda v: v[:, 4:5] * jnp.cosh(v), 1, [0, 1, 2, 3, 4, 5]),
    "one of several": (lambda v: jax.device_put((jnp.cos(v), jnp.sin(v)))[1], 1, [4, 5]),
    "another of several": (lambda v: lax.optimization_barrier((v, jnp.cos(v)))[1], 1, None),
    "choice": (lambda v: jnp.where(v > 1, v, jnp.sin(v)), 1, [4, 5]),
    "relu": (jax.nn.relu, 1, [4, 5]),
    "transpose": (lambda v: v.T, 0, [4, 5]),
    "mirror": (lambda v: v[:, ::-1], 1, [0, 1]),
    "rows": (lambda v: v.reshape(3, 1, 6), 2, [4, 5]),
    "one row": (lambda v: v.reshape(18), 0, None),
    "broadcast": (lambda v: jnp.broadcast_to(v, (2, 3, 6)), 2, [4, 5]),
    "slice": (lambda v: v[:, 1:5], 1, [3]),
    "steps": (lambda v: v[:, ::2], 1, [2]),
    "split": (lambda v: jnp.split(v, [5], 1)[1], 1, [0]),
    "total": (lambda v: v.sum(0), 0, [4, 5]),
    "largest": (lambda v: v.max(0), 0, [4, 5]),
    "total of units": (lambda v: v.sum(1), 0, None),
    "side by side": (lambda v: jnp.concatenate([v, jnp.cos(v), v], 1), 1, [4, 5, 16, 17]),
    "below one another": (lambda v: jnp.concatenate([v, jnp.sin(v)]), 1, [4, 5]),
    "below others": (lambda v: jnp.concatenate([v, jnp.cos(v)]), 1, None),
    "zeros around": (lambda v: jnp.pad(v, ((1, 0), (0, 1))), 1, [4, 5, 6]),
    "zeros above": (lambda v: jnp.pad(v, ((1, 0), (0, 1))), 0, [0]),
    "ones beside": (lambda v: jnp.pad(v, ((0, 0), (1, 0)), constant_values=1), 1, [5, 6]),
    "ones above": (lambda v: jnp.pad(v, ((1, 0), (0, 0)), constant_values=1), 1, None),
    "zeros between": (lambda v: lax.pad(v, 0.0, ((0, 0, 0), (0, 0, 1))), 1, None),
    "product": (lambda v: v @ W, 1, None),
    "product from the left": (lambda v: W.T[:, :3] @ v, 1, [4, 5]),
    "product with zeros": (lambda v: v @ jnp.zeros((6, 2)), 1, [0, 1]),
    "batch of products": (lambda v: jnp.einsum("bi,ij->ib", v, W), 0, [4, 5]),
    "depthwise": (lambda v: convolved(v, 12, 6), 2, [8, 9, 10, 11]),
    "by groups": (lambda v: convolved(v, 6, 3), 2, [4, 5]),
    "by larger groups": (lambda v: convolved(v, 6, 2), 2, None),
    "convolution": (lambda v: convolved(v, 6, 1), 2, None),
    "after a loop": (lambda v: lax.fori_loop(0, 2, lambda _, c: jnp.sin(c), v), 1, None),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros_are_found_where_numbers_have_them(name):
    function, d, at = FUNCTIONS[name]
    program = lambda x: function(beside(x))
    with np.errstate(all="ignore"):
        value = np.asarray(program(X))
    facts, _ = walk_program(jax.make_jaxpr(program)(X), 0, [OUTPUT], {})
    u = Unknowns(facts, {})
    for step in facts.steps:
        note_zeros(u, step)
    *_, out = facts.steps[-1].outs
    found = np.flatnonzero(zeros(u, out, d))
    assert found.tolist() == (at or [])
    assert not np.take(value, found, d).any()
