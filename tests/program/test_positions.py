"""What is the same all along ties nothing; positions of units are followed to where something is looked up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import certify, infer_spec
from dwalign.program.inference.atoms import UNIFORM, concatenation, find, fresh, leaves, product
from dwalign.program.inference.structure import split_product, unify
from tests import drawn

X = drawn.normal(4, 5)
weights = drawn.named


def largest(scores):
    return jnp.argmax(scores, -1)


def ranks(scores):
    return jnp.argsort(jnp.argsort(scores, -1), -1)


def kept(scores, count=2):
    """The largest scores at their places, zeros elsewhere."""
    values, at = jax.lax.top_k(scores, count)
    return jnp.zeros_like(scores).at[jnp.arange(len(scores))[:, None], at].set(values)


PICK = {"up": (5, 6), "down": (6, 2)}
FOLLOWED = {
    "looked up": lambda h, t: t[largest(h)],
    "taken": lambda h, t: jnp.take(t, largest(h), axis=0),
    "one of them": lambda h, t: h.mean(1, keepdims=True) * t[largest(h.sum(0))][None],
    "by more than its magnitude": lambda h, t: t[largest(h / (1 + jnp.abs(h)))],
    "one-hot code": lambda h, t: jax.nn.one_hot(largest(h), 6) @ t,
    "compared with all": lambda h, t: (h * (jnp.arange(6)[None] == largest(h)[:, None])) @ t,
    "several": lambda h, t: jnp.einsum("bk,bko->bo", jax.lax.top_k(h, 2)[0], t[jax.lax.top_k(h, 2)[1]]),
    "scattered": lambda h, t: kept(jax.nn.relu(h)) @ t,
    "replaced": lambda h, t: jnp.put_along_axis(h, largest(h)[:, None], 0.0, axis=-1, inplace=False) @ t,
    "threshold": lambda h, t: jnp.where(h >= jax.lax.top_k(h, 3)[0][:, -1:], h, 0) @ t,
    "by the largest of others": lambda h, t: t[largest(jax.lax.top_k(h[:, :, None] * X[:, None], 2)[0].sum(-1))],
    "solved": lambda h, t: t[largest(jnp.linalg.solve(jnp.eye(6) + h.T @ h, h.T).T)],
    "added and taken away": lambda h, t: t[largest((h + X[:, :1]) - 2 * jax.nn.relu(h) - X[:, :1])],
    "median": lambda h, t: (h - jnp.median(h, -1, keepdims=True)) @ t,
    "sorted positions": lambda h, t: t[jnp.argsort(h, -1)[:, -2:]].sum(1),
    "the second": lambda h, t: t[largest(h - 1e3 * jax.nn.one_hot(largest(h), 6))],
    "the second, of positive scores": lambda h, t: t[largest(jax.nn.softmax(h) * (1 - jax.nn.one_hot(largest(h), 6)))],
    "the second, without the first": lambda h, t: t[
        largest(jnp.where(jax.nn.one_hot(largest(h), 6, dtype=bool), -jnp.inf, h))
    ],
    "never silent": lambda h, t: t[largest(jax.nn.relu(h) @ (t @ t.T) + t.sum(1)[None])],
    "gated": lambda h, t: t[largest(h * jax.nn.softplus(h) * jax.nn.sigmoid(h.sum(1, keepdims=True)))],
    "scattered one by one": lambda h, t: (
        jax.vmap(lambda at, value: jnp.zeros(6).at[at].add(value))(*jax.lax.top_k(jax.nn.relu(h), 2)[::-1]) @ t
    ),
    "ranks": lambda h, t: (h * (ranks(h) > 2)) @ t,
    "looked up by rank": lambda h, t: jnp.take_along_axis(jnp.cumsum(jnp.sort(h, -1), -1), ranks(h), -1) @ t,
    "sorted and put back": lambda h, t: jax.lax.sort([jnp.argsort(h, -1), jnp.cumsum(jnp.sort(h, -1), -1)])[1] @ t,
    "in a loop": lambda h, t: jax.lax.scan(lambda c, at: (c + t[at], t[at]), jnp.zeros(2), largest(h))[1],
    "of either": lambda h, t: t[jax.lax.cond(h.sum() > 0, largest, lambda z: jnp.argmin(z, -1), h)],
    "identity": lambda h, t: h @ (t @ t.T + jnp.eye(6)) @ t,
}
COUNTED = {
    "truth values": lambda h, t: t[largest(h > 0)],
    "signs": lambda h, t: t[largest(jnp.sign(h) * jnp.linalg.norm(h, axis=-1, keepdims=True))],
    "clipped from above": lambda h, t: t[largest(jax.nn.relu6(9 * h))],
    "rows that nothing is added to": lambda h, t: t[largest(jnp.zeros_like(h).at[1:].add(h[1:]))],
    "rows of a sum over segments": lambda h, t: t[largest(jax.ops.segment_sum(h, jnp.zeros(len(h), int), len(h)))],
    "rows that are padded": lambda h, t: t[largest(jnp.pad(h[1:], ((1, 0), (0, 0))))],
    "rows beside zeros": lambda h, t: t[largest(jnp.concatenate([h[1:], jnp.zeros_like(h[:1])]))],
    "rows put into zeros": lambda h, t: t[largest(jax.lax.dynamic_update_slice(jnp.zeros_like(h), h[1:], (0, 0)))],
    "the least of many zeros": lambda h, t: t[jnp.argmin(jax.nn.relu(h), -1)],
    "sorted beside others": lambda h, t: t[
        largest(jax.lax.sort([h[:, :, None] * X[:, None], jnp.broadcast_to(X[:, None], (4, 6, 5))])[1][..., 0])
    ],
    "ranks of truth values": lambda h, t: (h * (ranks(h > 0) > 2)) @ t,
    "ranks of ranks of a part": lambda h, t: (h[:, :4] * jnp.argsort(jnp.argsort(h, -1)[:, :4], -1)) @ t[:4],
    "put back along another axis": lambda h, t: h.T @ h @ jnp.argsort(jnp.argsort(h.T @ h, 1), 0) @ t,
    "looked at by some": lambda h, t: (h - jax.lax.approx_max_k(h, 2)[0][:, 1:]) @ t,
    "the next": lambda h, t: t[(largest(h) + 1) % 6],
    "as a number": lambda h, t: t[:1] * largest(h)[:, None],
    "compared in order": lambda h, t: (h * (jnp.arange(6)[None] <= largest(h)[:, None])) @ t,
    "masked by number": lambda h, t: t[largest(jnp.where(jnp.arange(6)[None] < 4, h, -jnp.inf))],
    "changed in a loop": lambda h, t: t[jax.lax.fori_loop(0, 3, lambda k, at: (at * at) % 6, largest(h))],
    "the largest of few that may all be silent": lambda h, t: t[largest(jax.nn.relu(h))],
    "behind few that may all be silent": lambda h, t: t[largest(jax.nn.relu(h) @ (t @ t.T))],
    "from a state of zeros": lambda h, t: t[
        jax.lax.scan(lambda c, row: (jnp.tanh(c @ (t @ t.T) + row), largest(c @ (t @ t.T))), jnp.zeros(6), h)[1]
    ],
    "beside a number": lambda h, t: t[largest(jnp.stack([h, jnp.ones_like(h)], -1).max(-1))],
    "rounded, with the slope of what it rounds": lambda h, t: t[largest(h + jax.lax.stop_gradient(jnp.round(h) - h))],
    "by its magnitude": lambda h, t: t[largest(h / jnp.abs(h))],
    "by the root of its square": lambda h, t: t[largest(-h * jax.lax.rsqrt(h * h))],
    "times what cancels": lambda h, t: t[largest(h * (lambda all_: all_ - all_)(h.sum(-1, keepdims=True)))],
    "solved for a relu": lambda h, t: t[largest(jnp.linalg.solve(jnp.eye(6) + t @ t.T, jax.nn.relu(h).T).T)],
    "solved for signs": lambda h, t: t[largest(jnp.linalg.solve(2 * jnp.eye(6), jnp.sign(h).T).T)],
    "the least of pairs": lambda h, t: t[jnp.argmin((h.T @ h).min(-1))],
    "the first of sorted pairs": lambda h, t: t[jnp.argmin(jnp.sort(h.T @ h, -1)[:, 0])],
    "symmetric pairs": lambda h, t: t[largest((h[:, :, None] * h[:, None]).reshape(len(h), 36)) // 6],
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_positions_of_units_leave_them_free(name):
    params, apply = weights(**PICK), lambda p, x: FOLLOWED[name](x @ p["up"], p["down"])
    spec = infer_spec(apply, params, X)
    assert [str(axes) for axes in spec.leaves] == ["h0, _", "_, h0"]
    certify(spec, apply, params, X)


@pytest.mark.parametrize("name", COUNTED)
def test_counting_with_positions_pins(name):
    params, apply = weights(**PICK), lambda p, x: COUNTED[name](x @ p["up"], p["down"])
    assert not infer_spec(apply, params, X).sizes


# scores of pairs, each of one unit of either kind
PAIRS = {
    "sum": (lambda a, b: a[:, :, None] + b[:, None], "h0*h1, _"),
    "normalised in each": (lambda a, b: jax.nn.softmax(a[:, :, None] * b[:, None]), "h0*h1, _"),
    "the larger": (lambda a, b: jnp.maximum(a[:, :, None], b[:, None]), "_, _"),
    "beside a code": (lambda a, b: a[:, :, None] + jax.nn.one_hot(largest(b), 3)[:, None], "_, _"),
    "of one alone": (lambda a, b: a[:, :, None] + 0 * b[:, None], "_, _"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_positions_of_pairs(name):
    scores, axes = PAIRS[name]
    params = weights(a=(5, 2), b=(5, 3), down=(6, 2))
    apply = lambda p, x: p["down"][largest(scores(x @ p["a"], x @ p["b"]).reshape(len(x), 6))]
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["down"]) == axes
    certify(spec, apply, params, X)


# positions in a table, of its row and its column
ENTRIES = {
    "row by row": (lambda i, j: 12 * i + j, "h0*h1, _"),
    "column by column": (lambda i, j: i + 11 * j, "h1*h0, _"),
    "of another length": (lambda i, j: 11 * i + j, "_, _"),
    "the next row": (lambda i, j: 12 * ((i + 1) % 11) + j, "_, _"),
    "the next column": (lambda i, j: 12 * i + (j + 1) % 12, "_, _"),
    "backwards": (lambda i, j: 12 * i - j + 11, "_, _"),
    "the first column": (lambda i, j: 12 * i, "_, _"),
    "added to itself": (lambda i, j: 12 * i + 12 * i, "_, _"),
    "past the last number": (lambda i, j: (12 * i.astype("int8") + j.astype("int8")).astype(int), "_, _"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_positions_in_tables(name):
    """Such as product keys: the row is the best of one half of a query, the column of the other."""
    entry, axes = ENTRIES[name]
    params = weights(a=(5, 11), b=(5, 12), down=(132, 2))
    apply = lambda p, x: p["down"][entry(largest(x @ p["a"]), largest(x @ p["b"]))]
    spec = infer_spec(apply, params, X)
    assert str(spec.axes["down"]) == axes
    certify(spec, apply, params, X)


def put(values=lambda v: v, at=lambda at: at, zeros=jnp.zeros_like, scores=jax.nn.relu):
    def apply(h, t):
        found, places = jax.lax.top_k(scores(h), 2)
        return zeros(h).at[jnp.arange(len(h))[:, None], at(places)].set(values(found)) @ t

    return apply


def looked_up(weight=lambda v: v, rows=lambda t, at: t[at], sums="bk,bkd->bd", scores=jax.nn.relu):
    """What a sparse autoencoder reads: the rows of the largest units, each times its value."""

    def apply(h, t):
        found, at = jax.lax.top_k(scores(h), 2)
        return jnp.einsum(sums, weight(found), rows(t, at))

    return apply


def summed(weigh):
    """Of the values and the rows beside them."""
    return lambda h, t: (lambda v, at: weigh(v, t[at]).sum(1))(*jax.lax.top_k(jax.nn.relu(h), 2))


def two_layers(h, t):
    v, at = jax.lax.top_k(jax.nn.relu(h), 2)
    return jnp.einsum("bkd,bkde->be", v[..., None] * t[at], (t[:, :, None] * t[:, None])[at])


in_pairs = lambda h: h.reshape(len(h) // 2, 2, -1)
row = lambda h: h.sum(1, keepdims=True)
WEIGHTED = {
    "a product": looked_up(),
    "taken": looked_up(rows=lambda t, at: jnp.take(t, at, axis=0)),
    "columns of the transposed": looked_up(rows=lambda t, at: t.T[:, at], sums="bk,dbk->bd"),
    "turned": looked_up(lambda v: v.T, lambda t, at: t[at.T], "kb,kbd->bd"),
    "times and summed": summed(lambda v, rows: v[..., None] * rows),
    "one by one": lambda h, t: jax.vmap(lambda one: (lambda v, at: v @ t[at])(*jax.lax.top_k(one, 2)))(jax.nn.relu(h)),
    "shares": looked_up(lambda v: v / (v.sum(1, keepdims=True) + 1e-6)),
    "squares": looked_up(jnp.square),
    "times what is the same for all": looked_up(lambda v: jnp.tanh(v) * 3 * v.max(1, keepdims=True)),
    "in half precision": looked_up(lambda v: v.astype(jnp.bfloat16).astype(v.dtype)),
    "with a skip": lambda h, t: looked_up()(h, t) + jnp.tanh(h) @ t,
    "two layers of each": two_layers,
    "in pairs": lambda h, t: jnp.einsum(
        "bck,bckd->bcd", *(lambda v, at: (v, t[at]))(*jax.lax.top_k(in_pairs(jax.nn.relu(h)), 2))
    ),
    "put back": put(),
    "put back squared": put(jnp.square),
    "put back turned": lambda h, t: (
        (lambda v, at: jnp.zeros_like(h).at[jnp.arange(len(h))[None], at.T].set(v.T))(*jax.lax.top_k(jax.nn.relu(h), 2))
        @ t
    ),
}
row = lambda h: h.sum(1, keepdims=True)
TIES = {
    "behind a ReLU": lambda h, t: t[largest(jax.nn.relu(h))],
    "one-hot code": lambda h, t: jax.nn.one_hot(largest(jax.nn.relu(h)), 4) @ t,
    "several behind a ReLU": lambda h, t: t[jax.lax.top_k(jax.nn.relu(h), 2)[1]].sum(1),
    "shares of silent units": lambda h, t: t[jax.lax.top_k(jax.nn.softmax(jax.nn.relu(h)), 2)[1]].sum(1),
    "bounded from below": put(scores=lambda h: jnp.maximum(h, 0.3)),
    "in another order": put(lambda v: v[:, ::-1]),
    "of other rows": put(at=lambda at: at[::-1]),
    "all into one row": lambda h, t: (
        (lambda found, at: jnp.zeros_like(h).at[0, at].set(found))(*jax.lax.top_k(jax.nn.relu(h), 2)) @ t
    ),
    "numbered by their rank": lambda h, t: (
        (lambda found, at: jnp.zeros((2, 4)).at[jnp.arange(2)[None], at].set(found))(*jax.lax.top_k(jax.nn.relu(h), 2))
        @ t
    ),
    "ranks in rows": lambda h, t: (
        (lambda found, at: jnp.zeros((2, 4)).at[jnp.arange(2)[:, None], at.T].set(found.T))(
            *jax.lax.top_k(jax.nn.relu(h), 2)
        )
        @ t
    ),
    "into ones": put(zeros=jnp.ones_like),
    "put back with something added": put(lambda v: v + 1),
    "shares of all": looked_up(jax.nn.softmax),
    "a constant added": looked_up(lambda v: v + 0.5),
    "no less than something": looked_up(lambda v: jnp.maximum(v, 0.5)),
    "cosines": looked_up(jnp.cos),
    "weights in another order": looked_up(lambda v: v[:, ::-1]),
    "weights of other rows": looked_up(lambda v: v[::-1]),
    "all by the largest": looked_up(lambda v: jnp.broadcast_to(v[:, :1], v.shape)),
    "all by their sum": looked_up(lambda v: jnp.broadcast_to(row(v), v.shape)),
    "other rows": looked_up(rows=lambda t, at: t[at[:, ::-1]]),
    "rows that were turned": looked_up(rows=lambda t, at: t[at][::-1]),
    "every row with every weight": looked_up(sums="bk,bjd->bd"),
    "values of other units": looked_up(scores=lambda h: jax.nn.relu(h) - jax.nn.relu(-h).min(1, keepdims=True) + 1),
    "rows summed on the way": summed(lambda v, rows: v[..., None] * jax.lax.cumsum(rows, 1, reverse=True)),
    "the row besides": summed(lambda v, rows: v[..., None] * rows + 0.5 * rows),
    "added to rows": summed(lambda v, rows: jnp.tanh(v[..., None] + rows)),
    "looked up twice": lambda h, t: (lambda v, at: jnp.einsum("bk,bkd->bd", v, t[at]) + t[at[:, 1]])(
        *jax.lax.top_k(jax.nn.relu(h), 2)
    ),
    "pairs that change places": lambda h, t: jnp.einsum(
        "bkc,bckd->bd", *(lambda v, at: (v, t[at]))(*jax.lax.top_k(in_pairs(jax.nn.relu(h)), 2))
    ),
    "by the largest of fewer": lambda h, t: jnp.einsum(
        "bk,bkd->bd", jax.lax.top_k(h, 2)[0], t[jax.lax.top_k(jax.nn.relu(h), 2)[1]]
    ),
    "masked rows": lambda h, t: t[largest(h * (row(h) > 0))],
    "masked units": lambda h, t: t[largest(h * (h > 0))],
    "rows that are left out": lambda h, t: t[largest(jnp.where(row(h) > 0, h, 0))],
    "rows that are ruled out": lambda h, t: t[largest(jnp.where(row(h) > 0, h, -jnp.inf))],
    "rows times what may be silent": lambda h, t: t[largest(h * jax.nn.relu(row(h)))],
    "products of masked rows": lambda h, t: t[largest((h * (row(h) > 0)) @ (t @ t.T))],
    "a mask of the program": lambda h, t: t[largest(h * np.float32([1] * (len(h) - 1) + [0])[:, None])],
}


@pytest.mark.parametrize("name", TIES)
def test_units_that_may_all_be_zero_are_not_told_apart(name):
    """On many inputs the first of equal units is seen; on a few, as a certificate has them, it need not be."""
    params, x = weights(up=(5, 4), down=(4, 2)), drawn.normal(200, 5)
    apply = lambda p: TIES[name](x @ p["up"], p["down"])
    assert not infer_spec(lambda p, x: TIES[name](x @ p["up"], p["down"]), params, x).sizes
    moved = {"up": params["up"][:, ::-1], "down": params["down"][::-1]}
    assert jnp.max(jnp.abs(apply(params) - apply(moved))) > 0.1


@pytest.mark.parametrize("name", WEIGHTED)
def test_zeros_that_multiply_what_was_looked_up_need_no_order(name):
    """The same to the last digits of double precision, on many inputs that leave fewer units active than are taken."""
    apply = lambda p, x: WEIGHTED[name](x @ p["up"], p["down"])
    params, x = weights(up=(5, 4), down=(4, 2)), drawn.normal(200, 5)
    assert ((x @ params["up"] > 0).sum(1) < 2).sum() > 50
    spec = infer_spec(apply, params, x)
    assert [str(axes) for axes in spec.leaves] == ["h0, _", "_, h0"]
    certify(spec, apply, params, x)
    with jax.enable_x64(True):
        wide = {name: np.float64(w) for name, w in params.items()}
        moved = {"up": wide["up"][:, ::-1], "down": wide["down"][::-1]}
        before, after = (jax.jit(apply)(p, np.float64(x)) for p in (wide, moved))
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)


def test_experts_and_the_units_inside_of_them():
    params = weights(router=(5, 3), up=(3, 5, 4), down=(3, 4, 2))

    def apply(p, x):
        gates = jax.nn.softmax(x @ p["router"])
        inside = jax.nn.relu(jnp.einsum("bi,eih->beh", x, p["up"]))
        return jnp.einsum("be,beh,eho->bo", gates * jax.nn.one_hot(largest(gates), 3), inside, p["down"])

    spec = infer_spec(apply, params, X)
    assert [str(axes) for axes in spec.leaves] == ["h0, h1, _", "_, h0", "h0, _, h1"] and spec.batch["h1"] == ("h0",)


def test_sorting_orders_ranks_and_not_units():
    params = weights(up=(5, 6), down=(6, 2))
    spec = infer_spec(lambda p, x: jnp.sort(x @ p["up"], -1) @ p["down"], params, X)
    assert [str(axes) for axes in spec.leaves] == ["_, _", "_, h0"]


LAYERS = {"a": (5, 6), "b": (6, 6), "c": (6, 2)}
SHARED = {
    "a mask": lambda p, x: (lambda m: ((x @ p["a"] * m) @ p["b"] * m) @ p["c"])(jnp.ones((1, 6))),
    "rows of a mask": lambda p, x: (lambda m: ((x @ p["a"] * m[:1]) @ p["b"] * m[1:]) @ p["c"])(np.ones((2, 6), "f")),
    "a mean": lambda p, x: (lambda m: jnp.tanh((x @ p["a"] + m) @ p["b"] + m) @ p["c"])(
        jnp.broadcast_to(x.mean(1, keepdims=True), (4, 6))
    ),
    "a state": lambda p, x: (
        lambda z: (
            jnp.tanh(jax.lax.scan(lambda h, w: (jnp.tanh(h + x @ p["a"]), None), z, None, length=2)[0] @ p["b"] + z)
            @ p["c"]
        )
    )(jnp.zeros((4, 6))),
    "in both branches": lambda p, x: (
        lambda m: jax.lax.cond(x.sum() > 0, lambda h: h * m, lambda h: m, x @ p["a"]) @ p["b"] * m @ p["c"]
    )(jnp.ones((4, 6))),
    "carried through a loop": lambda p, x: (
        jax.lax.fori_loop(0, 2, lambda _, c: (jnp.tanh(c[0] * c[1]), c[1]), (x @ p["a"], jnp.ones((4, 6))))[0]
        @ p["b"]
        * jnp.ones((4, 6))
        @ p["c"]
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_what_is_uniform_ties_nothing(name):
    params, apply = weights(**LAYERS), SHARED[name]
    spec = infer_spec(apply, params, X)
    assert [str(axes) for axes in spec.leaves] == ["_, h0", "h0, h1", "h1, _"]
    certify(spec, apply, params, X)


def test_what_only_starts_uniform_is_not():
    params = weights(a=(5, 6), c=(6, 2))
    apply = lambda p, x: x @ p["a"] * jax.lax.fori_loop(0, 3, lambda k, m: m.at[k].set(2.0), jnp.ones(6))[None] @ p["c"]
    assert not infer_spec(apply, params, X).sizes


def test_uniform_factors_and_parts_meet_anew_each_time():
    units, even = fresh(3), fresh(4, UNIFORM)
    for _ in range(2):
        # a value that is uniform inside of each head ties neither the first layer's units nor the second's
        layer = fresh(12)
        met = unify(product([units, even]), layer)
        assert leaves(met) == leaves(layer) and leaves(met)[0] is find(units) and leaves(met)[1].reason is None
        assert even.reason is UNIFORM
    inner = fresh(4)
    assert leaves(unify(product([fresh(3, UNIFORM), inner]), product([units, even]))) == [find(units), find(inner)]
    padded = unify(concatenation([units, even]), concatenation([fresh(3), fresh(4, UNIFORM)]))
    assert leaves(padded)[1].reason is UNIFORM and split_product(even, 2)[1].reason is UNIFORM


def test_empty_pieces_have_no_say():
    params = weights(a=(5, 12), b=(5, 12), o=(6, 2))

    def apply(p, x):
        one, two = (jnp.split(x @ p[name], [0, 0, 6], -1) for name in "ab")
        none = jnp.concatenate([one[0], one[1]], -1)
        return jnp.concatenate([none, one[2] * two[3], two[0]], -1) @ p["o"] + (none * two[1]).sum()

    spec = infer_spec(apply, params, X)
    assert sorted(spec.sizes.values()) == [6, 6, 6] and str(spec.axes["o"]) == "h0, _"


MIXED = {
    "sorted and added": lambda h: (lambda z: z + jnp.sort(z, 1))(h),
    "convolved and added": lambda h: (
        h + jax.lax.conv_general_dilated(h, jnp.ones((3, 4, 4)), (1,), "SAME", dimension_numbers=("WNC", "WIO", "WNC"))
    ),
    "cholesky": lambda h: h + jnp.linalg.cholesky(jnp.einsum("bsu,btu->bst", h, h) + 9 * jnp.eye(6)[None]),
}


@pytest.mark.parametrize("name", MIXED)
def test_nothing_is_independent_for_positions_that_meet_each_other(name):
    params = weights(h=(6, 6, 6 if name == "cholesky" else 4), out=(6, 6, 6 if name == "cholesky" else 4))
    apply = lambda p, x: (
        (jnp.sin(MIXED[name](p["h"]))).sum() * x + (p["h"] ** 2 * jnp.arange(1.0, 7)[None, :, None]).sum()
    )
    certify(infer_spec(apply, params, X), apply, params, X)


def test_primitives_without_a_rule_keep_what_they_map_over():
    params = weights(a=(5, 3, 4), o=(3, 2))

    def apply(p, x):
        h = jnp.einsum("bi,ihd->hbd", x, p["a"])
        roots = jnp.linalg.cholesky(h @ h.swapaxes(1, 2) + jnp.eye(4)[None])
        solved = jnp.linalg.solve(roots, h)
        return jnp.einsum("hbc,ho->bo", roots, p["o"]) + jnp.einsum("hbd,ho->bo", solved, p["o"])

    spec = infer_spec(apply, params, X)
    assert str(spec.axes["o"]) == "h0, _" and "cholesky" in spec.unknown
    certify(spec, apply, params, X, tolerance=1e-4)


def convolve(h, kernel, groups=1):
    numbers = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(h, kernel, (1,), "SAME", dimension_numbers=numbers, feature_group_count=groups)


def test_convolutions_of_single_positions_treat_them_alike():
    params = weights(up=(5, 6), mix=(1, 4, 3), down=(6, 2))
    apply = lambda p, x: convolve(jnp.tanh(x @ p["up"]).swapaxes(1, 2), p["mix"]).swapaxes(1, 2) @ p["down"]
    spec = infer_spec(apply, params, np.ones((3, 4, 5), np.float32))
    assert [str(axes) for axes in spec.leaves] == ["h0, _", "_, _, _", "_, h0"]


def test_groups_that_do_not_fit_are_pinned_and_not_the_units_inside():
    params = weights(a=(3, 12), b=(1, 4, 12), c=(1, 4, 12), v=(12, 2))

    def apply(p, x):
        h = convolve(x @ p["a"], p["b"], 3)
        shuffled = h.reshape(*h.shape[:-1], 3, 4).swapaxes(-1, -2).reshape(h.shape)
        return convolve(shuffled, p["c"], 3).mean(1) @ p["v"]

    x = drawn.normal(2, 4, 3, seed=2)
    spec = infer_spec(apply, params, x)
    (group,) = (name for name in spec.sizes if name in str(spec.axes["c"]))
    (around,) = spec.batch[group]
    assert spec.fixed[around] == 3 and str(spec.axes["v"]) == f"{around}*{group}, _"
    certify(spec, apply, params, x)


def test_channels_beside_transforms_windows_and_scatters():
    params = weights(up=(5, 6), spot=(6,), down=(6, 2))

    def apply(p, x):
        h = (x @ p["up"]).at[:, jnp.array([1, 3])].set(p["spot"])
        pool = lambda h: jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 1), (1, 2, 1), "VALID")
        slopes = jax.grad(lambda h: pool(h).sum())(h)
        return (jnp.fft.irfft(jnp.fft.rfft(h * slopes, axis=1)[:, :2], n=4, axis=1) + h) @ p["down"]

    x = drawn.normal(3, 4, 5, seed=3)
    spec = infer_spec(apply, params, x)
    assert [str(axes) for axes in spec.leaves] == ["h0, _", "h0", "_, h0"] and not spec.unknown
    certify(spec, apply, params, x)
