"""Signs, scales, orthogonal and linear maps of programs with more parameters, and of numbers of other types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dwalign.program import certify, infer_spec
from tests.drawn import named as weights
from tests.program.free import X, inferred, norm, written

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


@program("monomial", a=((5, 4), "_, h0"), b=((4, 2), "h0, _"))
def reciprocals_beside_what_cancels(p, x):
    h = x @ p["a"]
    return ((h**-1 - h) + h) @ p["b"]


@program("linear", a=((5, 4), "_, h0"), b=((4, 2), "h0^-1, _"))
def watched(p, x):
    h = x @ p["a"]
    jax.debug.callback(lambda _: None, h)
    return h @ p["b"]


@program("linear", a=((5, 4), "_, h0"), c=((4, 4), "h0^-1, h0^-1"))
def quadratic(p, x):
    h = x @ p["a"]
    return jnp.einsum("bi,ij,bj->b", h, p["c"], h)


@program("linear orthogonal", a=((5, 4), "_, h0"), b=((4, 2), "h0, _"), c=((4, 6), "h0^-1, h1"))
def gram(p, x):
    return x @ p["a"] @ (p["c"] @ p["c"].T) @ p["b"]


@program("linear", a=((5, 4), "_, h0"), b=((4, 2), "h0^-1, _"), c=((4, 4), "h0^-1, h0"))
def beside_the_identity(p, x):
    return x @ p["a"] @ (jnp.eye(4) + p["c"]) @ p["b"]


@program("orthogonal orthogonal", a=((5, 4), "_, h0"), b=((4, 2), "h0, _"), c=((4, 3), "h0, h1"))
def beside_the_identity_symmetric(p, x):
    return x @ p["a"] @ (jnp.eye(4) + p["c"] @ p["c"].T) @ p["b"]


@program(
    "scale sign",
    a=((5, 4), "_, h0"),
    b=((5, 3), "_, h1"),
    c=((7, 7), "h0^-1 + h1, h0 + h1"),
    d=((7, 2), "h0^-1 + h1, _"),
)
def groups_beside_the_identity(p, x):
    h = jnp.concatenate([jax.nn.relu(x @ p["a"]), jnp.tanh(x @ p["b"])], -1)
    return h @ (jnp.eye(7) + p["c"]) @ p["d"]


@program("permutation permutation", a=((5, 4), "_, h0"), b=((4, 2), "h1, _"), c=((4, 4), "h0, h1"))
def beside_ones(p, x):
    return x @ p["a"] @ (jnp.ones((4, 4)) + p["c"]) @ p["b"]


@program("monomial", a=((5, 4), "_, h0^1:0"), b=((4, 2), "h0^0:-1, _"), c=((4, 4), "h0^-1:0, h0^0:1"))
def without_the_diagonal(p, x):
    return x @ p["a"] @ jnp.where(jnp.eye(4, dtype=bool), 0, p["c"]) @ p["b"]


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


@program("sign scale", a=((5, 4), "_, h0"), e=((2, 4, 6), "f0, h0, h1"), d=((2, 6, 2), "f0, h1^-1, _"))
def experts_by_ragged_products(p, x):
    rows = jnp.array([2, 1])
    return lax.ragged_dot(jax.nn.relu(lax.ragged_dot(jnp.tanh(x @ p["a"]), p["e"], rows)), p["d"], rows)


@program("linear", a=UP, b=READ)
def solved_by_triangles(p, x):
    return lax.linalg.triangular_solve(x[:, :3] + 5 * jnp.eye(3), x @ p["a"], left_side=True) @ p["b"]


def density(p, h):
    """The velocity of a flow, and how fast it spreads."""
    velocity = lambda h: jnp.tanh(h @ p["up"] + p["b"]) @ p["down"]
    return velocity(h), jnp.trace(jax.jacfwd(velocity)(h))


@program("sign", up=UP, b=((6,), "h0"), down=((6, 5), "h0, _"))
def continuous_flow(p, x):
    turn = lambda h, _: (h + density(p, h)[0], density(p, h)[1])
    return jax.vmap(lambda h: lax.scan(turn, h, None, length=2))(x)


@program("sign", up=UP, b=((6,), "h0"), down=((6, 1), "h0, _"))
def residual_of_a_differential_equation(p, x):
    solution = lambda h: (jnp.tanh(h @ p["up"] + p["b"]) @ p["down"])[0]
    return jax.vmap(lambda h: jnp.trace(jax.hessian(solution)(h)) + jax.grad(solution)(h)[0] * solution(h))(x)


@program("linear", a=UP, c=((6, 6), "h0, h0^-1"), b=READ)
def solved(p, x):
    return jnp.linalg.solve(jnp.eye(6) + p["c"], (x @ p["a"]).T).T @ p["b"]


@program("orthogonal", a=UP, c=((6, 6), "h0, h0"), b=DOWN)
def cayley(p, x):
    skew = p["c"] - p["c"].T
    return x @ p["a"] @ jnp.linalg.inv(jnp.eye(6) + skew) @ (jnp.eye(6) - skew) @ p["b"]


@program("orthogonal", a=UP)
def ridge_regression(p, x):
    h = x @ p["a"]
    return h @ jnp.linalg.solve(h.T @ h + jnp.eye(6), h.T @ x)


@program("linear sign", a=UP, c=((6, 6), "h0, h1"), b=((6, 2), "h1, _"))
def solved_for_what_is_odd(p, x):
    return jnp.tanh(jnp.linalg.solve(p["c"], (x @ p["a"]).T)).T @ p["b"]


@program("sign", a=UP, c=((6, 6), "h0, h0"), b=DOWN)
def slope_of_what_is_solved(p, x):
    found = lambda h: jnp.linalg.solve(jnp.eye(6) + p["c"], jnp.tanh(h @ p["a"])) @ p["b"]
    return jax.vmap(jax.jacrev(found))(x)


@program("orthogonal orthogonal", a=UP, c=((6, 6), "h0, h1"), b=DOWN)
def solved_round_by_round(p, x):
    """Where it stops depends on the coordinates."""
    gram = p["c"] @ p["c"].T
    rows = jax.vmap(lambda h: jax.scipy.sparse.linalg.cg(lambda v: gram @ v, h, maxiter=2)[0])(x @ p["a"])
    return rows @ p["b"]


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


@program("scale scale", up=UP, skip=((5, 8), "_, h0 + h1"), down=((8, 2), "h0^-1 + h1^-1, _"))
def padded_with_zeros(p, x):
    return jax.nn.relu(jnp.pad(x @ p["up"], ((0, 0), (0, 2))) + x @ p["skip"]) @ p["down"]


@program("scale permutation", up=UP, skip=((5, 8), "_, h0 + h1"), down=((8, 2), "h0^-1 + h1, _"))
def padded_with_ones(p, x):
    h = jnp.pad(x @ p["up"], ((0, 0), (0, 2)), constant_values=1)
    return jax.nn.relu(h + x @ p["skip"]) @ p["down"]


def automaton(change):
    """Hidden channels that begin as zeros beside the inputs, which see their neighbours."""

    def apply(p, x):
        kernel = jnp.ones((3, 1, 11))
        look = lambda x: lax.conv_general_dilated(
            x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=11
        )
        state = change(jnp.concatenate([jnp.stack([x, x[::-1]]), jnp.zeros((2, 3, 6))], -1))
        for _ in range(2):
            seen = jnp.concatenate([state, look(state)], -1)
            state = state + jax.nn.relu(seen @ p["up"]) @ p["down"]
        return state[..., :5]

    return apply


@program("scale linear", up=((22, 8), "5 + h1 + 5 + h1, h0"), down=((8, 11), "h0^-1, 5 + h1^-1"))
def channels_that_begin_as_zeros(p, x):
    return automaton(jnp.sin)(p, x)


@program("permutation", up=UP, down=DOWN)
def ones_around_the_batch(p, x):
    return jax.nn.relu(jnp.pad(x @ p["up"], ((1, 1), (0, 0)), constant_values=1)) @ p["down"]


@program("scale permutation", up=((22, 8), "5 + h1 + 5 + h1, h0"), down=((8, 11), "h0^-1, 5 + h1"))
def channels_that_begin_as_ones(p, x):
    return automaton(jnp.cos)(p, x)


def collected(change, fill=jnp.inf, turns=4):
    """States of a loop, written where nothing is yet, as solvers do."""

    def apply(p, x):
        def turn(n, carry):
            h, states = carry
            h = h + change(h @ p["rec"])
            return h, states.at[n].set(h)

        h = x @ p["up"]
        _, states = lax.fori_loop(0, turns, turn, (h, jnp.full((4, *h.shape), fill)))
        return states[1:] @ p["down"]

    return apply


REC = (6, 6)


@program("sign", up=UP, rec=(REC, "h0, h0"), down=DOWN)
def states_where_infinities_were(p, x):
    return collected(jnp.tanh)(p, x)


@program("linear", up=UP, rec=(REC, "h0^-1, h0"), down=READ)
def linear_states_where_no_numbers_were(p, x):
    return collected(lambda h: h, jnp.nan)(p, x)


@program("permutation", up=UP, rec=(REC, "h0, h0"), down=DOWN)
def states_beside_ones(p, x):
    return collected(jnp.tanh, 1.0, 3)(p, x)


@program("permutation", up=UP, rec=(REC, "h0, h0"), down=DOWN)
def infinities_of_which_numbers_are_made(p, x):
    h = x @ p["up"]
    return lax.fori_loop(0, 3, lambda _, z: jnp.tanh(z + h) @ p["rec"], jnp.full_like(h, jnp.inf)) @ p["down"]


@program("permutation", up=UP, down=DOWN)
def infinities_that_are_added_to(p, x):
    most = jnp.full((4, 6), jnp.inf).at[:3].add(x @ p["up"])
    return jnp.tanh(most) @ p["down"]


@program("scale", up=UP, down=READ)
def running_maximum(p, x):
    h = x @ p["up"]
    turn = lambda most, row: (jnp.maximum(most, row), jnp.maximum(most, row))
    return lax.scan(turn, jnp.full(6, -jnp.inf), h)[1] @ p["down"]


HALF = np.arange(3)[:, None] < 2


@program("orthogonal", up=UP, down=DOWN)
def norms_of_infinities(p, x):
    h = jnp.where(HALF, x @ p["up"], jnp.inf)
    return x @ p["up"] @ p["down"] + jnp.exp(-jnp.sqrt(jnp.sum(h * h, -1, keepdims=True)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name):
    apply, kinds, arrays = PROGRAMS[name]
    params = weights(**{name: shape for name, (shape, _) in arrays.items()})
    spec, certificate = inferred(apply, params, X)
    assert written(spec) == {f"['{name}']": axes for name, (_, axes) in arrays.items()}
    assert " ".join(spec.kinds.values()) == kinds
    assert not certificate.missed


def scaled(map_, b):
    """Divided by the diagonal alone."""
    return b / jnp.diag(jax.jacfwd(map_)(b))


def by_triangles(map_, b):
    """A step of Gauss and Seidel, which uses one half of the matrix."""
    return lax.linalg.triangular_solve(jax.jacfwd(map_)(b), b[:, None], left_side=True, lower=True)[:, 0]


def solved_by(solver, c, b, **settings):
    found = lax.custom_linear_solve(lambda v: c @ v, b[:, 0], solver, solver, **settings)
    return (found[0] if settings else found)[:, None]


# solvers that need not solve the equation
NOT_SOLVED = {
    "one half read": (
        lambda c, b: jax.scipy.linalg.solve(9 * jnp.eye(6) + c, b, assume_a="pos"),
        "",
    ),
    "one half read, batched": (
        lambda c, b: jax.vmap(lambda r: jax.scipy.linalg.solve(9 * jnp.eye(6) + c, r, assume_a="pos"), 1, 1)(b),
        "",
    ),
    "not yet there": (lambda c, b: solved_by(scaled, c, b), "monomial"),
    "round by round": (
        lambda c, b: solved_by(
            lambda map_, b: lax.fori_loop(0, 2, lambda _, v: v + by_triangles(map_, b - map_(v)), b), c, b
        ),
        "",
    ),
    "beside more": (lambda c, b: solved_by(lambda map_, b: (by_triangles(map_, b), b), c, b, has_aux=True), ""),
}


@pytest.mark.parametrize("name", NOT_SOLVED)
def test_equations_that_are_not_solved(name):
    solver, kind = NOT_SOLVED[name]
    params = weights(a=(5, 6), c=(6, 6), b=(6, 2))
    apply = lambda p, x: solver(p["c"] / 9, (x @ p["a"]).T).T @ p["b"]
    spec = infer_spec(apply, params, X, kinds="all")
    assert " ".join(spec.kinds.values()) == kind
    certify(spec, apply, params, X)


def weighted_heads(p, x):
    """A mask before a sum over heads."""
    scores = jnp.einsum("qd,hd,kd->hqk", x, p["up"].T, x)
    return jax.nn.softmax(jnp.where(np.tri(len(x), dtype=bool), scores, -jnp.inf).T @ p["down"], 0)


@pytest.mark.parametrize(
    "apply",
    [
        weighted_heads,
        lambda p, x: jnp.tanh(jnp.where(HALF, x @ p["up"], jnp.inf) @ p["down"]),
        lambda p, x: 1 / (jnp.where(HALF, x @ p["up"], jnp.inf) @ p["down"]),
    ],
    ids=["heads", "tanh", "under"],
)
def test_infinities_summed_over_units(apply):
    """They are infinite where all signs agree, and no number where they do not."""
    params = jax.tree.map(np.abs, weights(up=(5, 6), down=(6, 2)))
    spec = infer_spec(apply, params, X, kinds="all")
    assert spec.kinds == {"h0": "scale"}
    certify(spec, apply, params, X)


@pytest.mark.parametrize("dtype", [np.int8, bool])
def test_what_has_no_fractions_carries_no_factors(dtype):
    """Quantised weights with their scales, and masks: what an element makes of them are whole numbers again."""
    whole = np.random.default_rng(0).integers(-1, 2, (5, 6)).astype(dtype)
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
    "complex power": (lambda h: h ** (0.5 + 1j), "permutation"),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_have_real_factors(name):
    middle, kind = COMPLEX[name]
    rng = np.random.default_rng(0)
    draw = lambda *shape: (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    params = {"up": draw(5, 6), "down": draw(6, 2)}
    spec, certificate = inferred(lambda p, x: middle(x @ p["up"]) @ p["down"], params, X)
    assert dict(spec.kinds) == {"h0": kind} and not certificate.missed
