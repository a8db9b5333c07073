"""Random programs, as plain data: a list of steps that an interpreter applies, so that failures shrink and can be kept.

A value is `[ROWS, width]`; a step makes one of the values before it. Each weight is drawn where a step asks for it, and
new widths differ from all others, so that a spec that confuses two groups cannot fit.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

ROWS, INPUTS, OUTPUTS = 4, 3, 2
# those that can be taken apart come first: most steps that reshape need one
WIDTHS = (6, 4, 10, 9, 15, 8, 14, 12, 21, 22, 25, 16, 18, 20, 26, 27, 28)


class Step(NamedTuple):
    """Attributes:
    name: of an operation.
    of, beside: which values it takes, counted back from the last one.
    how: which of its variants it is.
    """

    name: str
    of: int = 0
    beside: int = 0
    how: int = 0


class Realised(NamedTuple):
    """A program with weights and inputs."""

    apply: Callable
    params: dict[str, np.ndarray]
    inputs: tuple[np.ndarray, np.ndarray]


class Tape:
    """Hands out weights in the order in which they are asked for; without any it notes their shapes."""

    def __init__(self, given: dict[str, Any] | None = None):
        self.given, self.shapes, self.widths = given, {}, iter(WIDTHS)

    def __call__(self, *shape: int) -> Any:
        name = f"w{len(self.shapes):02}"
        self.shapes[name] = shape
        return jnp.ones(shape) if self.given is None else self.given[name]

    def width(self) -> int:
        return next(self.widths)

    def linear(self, h, width=None):
        return h @ self(h.shape[-1], width or self.width())

    def like(self, h, g):
        """g in the width of h."""
        return g if g.shape == h.shape else self.linear(g, h.shape[1])

    def cut(self, h, how):
        """h as `[rows, a, b]`."""
        n = h.shape[1]
        whole = [a for a in range(2, n) if n % a == 0]
        return h.reshape(ROWS, whole[how % len(whole)], -1) if whole else self.cut(self.linear(h), how)


def flat(h):
    return h.reshape(ROWS, -1)


ACTIVATIONS = (
    jax.nn.relu, jnp.tanh, jax.nn.gelu, jax.nn.silu, jnp.abs, lambda h: h * h / 4, jnp.sin, jax.nn.leaky_relu,
    lambda h: jnp.where(h > 0, h, jnp.expm1(h)), lambda h: jnp.clip(h, -1, 1), lambda h: jax.nn.relu(h) ** 2 / 4,
    jax.checkpoint(jnp.tanh), jax.jit(jnp.cos), lambda h: jnp.maximum(h, jnp.tanh(h)),
)  # fmt: skip


def pick(variants: Sequence, how: int) -> Any:
    return variants[how % len(variants)]


def dense(w, h, g, how):
    y = w.linear(h)
    return y + w(y.shape[1])[None] if how % 2 else y


def act(w, h, g, how):
    return pick(ACTIVATIONS, how)(h)


def add(w, h, g, how):
    return h + w.like(h, g)


def multiply(w, h, g, how):
    return h * w.like(h, g) if how % 2 else h / (1 + jnp.abs(w.like(h, g)))


def residual(w, h, g, how):
    return h + w.linear(pick(ACTIVATIONS, how)(w.linear(h)), h.shape[1])


def concatenate(w, h, g, how):
    parts = ([h, g], [h, jnp.tanh(g), h], [g, jnp.zeros((ROWS, 2)), h], [h, -h])
    return jnp.concatenate(pick(parts, how), 1)


def split(w, h, g, how):
    if how % 2 and h.shape[1] % 2 == 0:
        one, two = jnp.split(h, 2, 1)
        return one * jnp.tanh(two)
    at = 1 + how % (h.shape[1] - 1)
    one, two = jnp.split(h, [at], 1)
    return pick(
        (lambda: jnp.concatenate([two, one], 1), lambda: one, lambda: jnp.concatenate([one, jnp.sin(two)], 1)), how
    )()


def shuffle(w, h, g, how):
    cut = w.cut(h, how)
    return flat(jnp.tanh(cut.swapaxes(1, 2)) if how % 2 else cut.swapaxes(1, 2))


def reshape(w, h, g, how):
    """What is computed inside of units that were taken apart."""
    cut = w.cut(h, how)
    inside = (
        lambda: cut - cut.mean(1, keepdims=True),
        lambda: cut * jax.nn.softmax(cut, 2),
        lambda: jnp.einsum("tab,bc->tac", cut, w(cut.shape[2], w.width())),
        lambda: cut + w(cut.shape[1], 1)[None],
        lambda: jnp.einsum("tab,abc->tac", cut, w(*cut.shape[1:], w.width())),
        lambda: jnp.cumsum(cut, 1),
        lambda: cut.sum(1, keepdims=True) * cut,
        lambda: cut.max(2),
        lambda: jnp.stack(jnp.unstack(cut, axis=1)[::-1], 1),
        lambda: jnp.repeat(cut, 2, axis=1),
        lambda: jnp.einsum("tab,tcb->tac", cut, cut),
    )
    return flat(pick(inside, how)())


def mix(w, h, g, how):
    """Rows, by way of hidden ones."""
    hidden = w.width()
    return w(ROWS, hidden) @ pick(ACTIVATIONS, how)(w(hidden, ROWS) @ h)


def attention(w, h, g, how):
    (heads, units), n = pick(((2, 3), (3, 5), (2, 7)), how // 6), h.shape[1]
    kind = how % 6
    if kind == 0:
        q, k, v = (jnp.einsum("ti,ihd->htd", h, w(n, heads, units)) for _ in range(3))
    elif kind == 1:
        q, k, v = jnp.moveaxis((h @ w(n, 3 * heads * units)).reshape(ROWS, 3, heads, units), (1, 2), (0, 1))
    elif kind == 2:
        q, k, v = jnp.split(jnp.moveaxis((h @ w(n, heads * 3 * units)).reshape(ROWS, heads, -1), 1, 0), 3, -1)
    elif kind == 3:
        q, k, v = jnp.moveaxis((h @ w(n, heads * units * 3)).reshape(ROWS, heads, units, 3), (3, 1), (0, 1))
    elif kind == 4:
        bias = jnp.concatenate([w(heads * units), jnp.zeros(heads * units), w(heads * units)])[None]
        fused = h @ w(n, 3 * heads * units) + bias
        q, k, v = jnp.moveaxis(fused.reshape(ROWS, 3, heads, units), (1, 2), (0, 1))
    else:
        q = jnp.einsum("ti,ihd->htd", h, w(n, 2 * heads, units))
        k, v = (jnp.repeat(jnp.einsum("ti,ihd->htd", g, w(g.shape[1], heads, units)), 2, axis=0) for _ in range(2))
    seen = jax.nn.softmax(jnp.einsum("hqd,hkd->hqk", q, k) / 2)
    out = jnp.einsum("hqk,hkd->qhd", seen, v)
    return flat(out) if how % 3 == 0 else jnp.einsum("qhd,hdo->qo", out, w(*out.shape[1:], w.width()))


def gate(w, h, g, how):
    width = w.width()
    if how % 2:
        one, two = jnp.split(w.linear(h, 2 * width), 2, 1)
        return jax.nn.silu(one) * two
    return pick(ACTIVATIONS, how)(w.linear(h, width)) * w.linear(g, width)


def scan(w, h, g, how):
    """Over rows, or over layers that are stacked."""
    n, variants = w.width(), how % 4
    if variants == 0:
        up, turn = w(h.shape[1], n), w(n, n) / 3
        step = lambda c, row: (jnp.tanh(row @ up + c @ turn),) * 2
        return lax.scan(step, jnp.zeros(n), h, reverse=bool(how // 4 % 2))[1]
    if variants == 1:
        layers = w(3, h.shape[1], n), w(3, n, h.shape[1])
        return lax.scan(lambda c, one: (c + jax.nn.relu(c @ one[0]) @ one[1] / 3, None), h, layers)[0]
    if variants == 2:
        gates, turn = w(h.shape[1], 4 * n), w(n, 4 * n) / 3

        def lstm(carry, row):
            i, f, o, u = jnp.split(row @ gates + carry[0] @ turn, 4)
            c = jax.nn.sigmoid(f) * carry[1] + jax.nn.sigmoid(i) * jnp.tanh(u)
            return ((jax.nn.sigmoid(o) * jnp.tanh(c), c), carry[0])

        return lax.scan(lstm, (jnp.zeros(n), jnp.zeros(n)), h)[1]
    return lax.scan(lambda c, row: (c + row, c * row), jnp.zeros(h.shape[1]), h)[1]


def cond(w, h, g, how):
    other = w.like(h, g)
    branches = pick(
        ((jnp.tanh, jax.nn.relu), (lambda z: z + other, jnp.sin), (lambda z: z[::-1], lambda z: 2 * z)), how
    )
    return (
        lax.cond(h.sum() > 0, *branches, h)
        if how % 2
        else lax.switch((how + (h[0, 0] > 0.5)) % 3, [*branches, jnp.cos], h)
    )


def loop(w, h, g, how):
    n = h.shape[1]
    turn = w(n, n) / 5 if how % 4 < 2 else None
    loops = (
        lambda: lax.fori_loop(0, 2, lambda _, z: jnp.tanh(z @ turn) + h, h),
        lambda: lax.while_loop(lambda z: z[1] < 2, lambda z: (jnp.tanh(z[0] @ turn), z[1] + 1), (h, 0))[0],
        lambda: lax.while_loop(lambda z: (z**2).sum() > 1, lambda z: z / 2, h) + h,
        lambda: lax.map(lambda row: jnp.tanh(row) * row.mean(), h),
    )
    return pick(loops, how)()


def gather(w, h, g, how):
    rows = np.array([2, 0, 3, 1])
    ways = (
        lambda: h[rows],
        lambda: jnp.take(h, jnp.arange(ROWS) // 2, axis=0),
        lambda: h[:, np.arange(h.shape[1])[::-1]],
        lambda: jnp.take_along_axis(h, jnp.argsort(h[:, :1], axis=0), axis=0),
        lambda: h[jnp.argmax(jnp.abs(h).sum(1))][None] + h,
        lambda: lax.dynamic_slice_in_dim(h, 1, max(1, h.shape[1] // 2), 1),
        lambda: h[:, np.arange(h.shape[1] // 2)],
        lambda: jnp.take_along_axis(h, jnp.argmax(h, 1)[:, None], axis=1) * h,
    )
    return pick(ways, how)()


def scatter(w, h, g, how):
    other = w.like(h, g)
    ways = (
        lambda: jax.ops.segment_sum(h[np.array([0, 2, 1, 1])], np.array([0, 1, 1, 3]), ROWS),
        lambda: h.at[1].set(other[2]),
        lambda: h.at[np.array([0, 0, 2])].add(other[:3]),
        lambda: h.at[:, 0].multiply(2.0),
        lambda: lax.dynamic_update_slice(h, jnp.tanh(other[:2]), (1, 0)),
        lambda: h.at[:, : h.shape[1] // 2].add(1.0),
        lambda: jnp.zeros_like(h).at[jnp.argsort(h.sum(1))].max(other),
    )
    return pick(ways, how)()


def norm(w, h, g, how):
    centred = lambda z, axes: (z - z.mean(axes, keepdims=True)) / jnp.sqrt(z.var(axes, keepdims=True) + 1e-3)
    scale, shift = (w(h.shape[1])[None] for _ in range(2))
    kinds = (
        lambda: centred(h, 1) * scale + shift,
        lambda: h / jnp.sqrt((h**2).mean(1, keepdims=True) + 1e-3) * scale,
        lambda: flat(centred(w.cut(h, how), 2)),
        lambda: (h - shift) / jnp.sqrt(scale**2 + 1e-3) * w(h.shape[1])[None],
        lambda: centred(h, 0) * scale + shift,
        lambda: flat(centred(w.cut(h, how), (0, 2))),
        lambda: h / (1e-3 + jnp.linalg.norm(h, axis=1, keepdims=True)),
    )
    return pick(kinds, how)()


def pool(w, h, g, how):
    ways = (
        lambda: lax.reduce_window(h, -jnp.inf, lax.max, (2, 1), (1, 1), "SAME"),
        lambda: lax.reduce_window(h, 0.0, lax.add, (3, 1), (1, 1), "SAME"),
        lambda: lax.reduce_window(h, -jnp.inf, lax.max, (1, 2), (1, 2), "VALID"),
        lambda: h.mean(0, keepdims=True) + h,
        lambda: jnp.broadcast_to(h.max(0), h.shape),
        lambda: h - h.min(1, keepdims=True),
    )
    return pick(ways, how)()


def order(w, h, g, how):
    ways = (
        lambda: jnp.sort(h, 0),
        lambda: jnp.sort(h, 1),
        lambda: lax.top_k(h, max(1, h.shape[1] // 2))[0],
        lambda: jnp.cumsum(h, 0),
        lambda: jnp.cumsum(h, 1),
        lambda: lax.cummax(h, 0),
        lambda: lax.associative_scan(jnp.add, h),
        lambda: h + jnp.argmax(h, 1, keepdims=True),
        lambda: h * (jnp.argmax(h, 0)[None] + 1),
        lambda: jnp.argsort(h, 0) * h,
        lambda: h - jnp.median(h, axis=1, keepdims=True),
        lambda: h * (jnp.max(h, 1, keepdims=True) == h),
    )
    return pick(ways, how)()


def cut(w, h, g, how):
    n = h.shape[1]
    ways = (
        lambda: h[:, : n // 2],
        lambda: h[:, n // 2 :],
        lambda: h[:, ::2],
        lambda: h[:, ::-1],
        lambda: h[::-1],
        lambda: jnp.roll(h, 1, 0),
        lambda: jnp.roll(h, 1, 1),
        lambda: jnp.pad(h, ((0, 0), (1, 2))),
        lambda: h[:, 1:] - h[:, :-1],
        lambda: h.at[:, :1].get(),
        lambda: jnp.pad(h[1:], ((1, 0), (0, 0))),
        lambda: jnp.tile(h, (1, 2)),
        lambda: jnp.repeat(h, 2, axis=1),
        lambda: h + jnp.arange(1.0 * n)[None],
        lambda: h + jnp.arange(1.0 * ROWS)[:, None],
    )
    return pick(ways, how)()


def embed(w, h, g, how):
    width = w.width()
    ways = (
        lambda: w(h.shape[1], width)[jnp.argmax(h, 1)],
        lambda: jax.nn.one_hot(jnp.argmax(h, 1), h.shape[1]) * h,
        lambda: jax.nn.one_hot(jnp.argmax(h, 1), h.shape[1]) @ w(h.shape[1], width),
        lambda: w(7, width)[:ROWS] + w.linear(h, width),
        lambda: w(1, ROWS, width)[0] * w.linear(h, width),
    )
    return pick(ways, how)()


def softmax(w, h, g, how):
    ways = (
        lambda: h * jax.nn.softmax(h, 1),
        lambda: h * jax.nn.softmax(h, 0),
        lambda: jax.nn.log_softmax(h, 1),
        lambda: h - jax.nn.logsumexp(h, 1, keepdims=True),
        lambda: h - jax.nn.logsumexp(h, 0, keepdims=True),
    )
    return pick(ways, how)()


def einsum(w, h, g, how):
    n = h.shape[1]
    ways = (
        lambda: jnp.einsum("ti,ijk,tj->tk", h, w(n, g.shape[1], w.width()), g) / 4,
        lambda: jnp.einsum("ti,si,sj->tj", h, h, g) / 4,
        lambda: jnp.einsum("ti,tj->tij", h, g[:, :3]).reshape(ROWS, -1),
        lambda: (h.T @ h / 4 @ w(n, w.width()))[:ROWS] if n >= ROWS else h,
        lambda: h @ (h.T @ g) / 4,
        lambda: jnp.einsum("ti,tj->ti", h, g),
        lambda: jnp.einsum("ti,ri,ro->to", h, w(2, n), w(2, w.width())),
        lambda: jnp.kron(h, jnp.ones((1, 2))),
    )
    return pick(ways, how)()


def conv(w, h, g, how):
    """Along rows."""
    kind = how % 6
    x = h if kind != 1 else flat(w.cut(h, how // 6))
    groups = {1: w.cut(x, how // 6).shape[1] if kind == 1 else 1, 2: x.shape[1]}.get(kind, 1)
    out = {1: 2 * groups, 2: x.shape[1]}.get(kind) or w.width()
    kernel = w(3, x.shape[1] // groups, out) / 2
    run = lambda x, kernel, **more: lax.conv_general_dilated(
        x[None], kernel, padding="SAME", dimension_numbers=("NWC", "WIO", "NWC"), **{"window_strides": (1,), **more}
    )[0]
    if kind == 3:
        return run(x, kernel, rhs_dilation=(2,))
    if kind == 4:
        half = run(x, kernel, window_strides=(2,))
        up = w(2, out, x.shape[1])
        return lax.conv_transpose(half[None], up, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))[0] + x
    if kind == 5:
        return jnp.repeat(run(x, kernel, window_strides=(2,)), 2, axis=0)
    return run(x, kernel, feature_group_count=groups)


def tied(w, h, g, how):
    """A weight in two places."""
    n = h.shape[1]
    kernel = w(n, w.width())
    ways = (
        lambda: jnp.tanh(h @ kernel) @ kernel.T,
        lambda: h @ kernel + (jnp.tanh(h) @ kernel),
        lambda: h @ (kernel @ kernel.T),
        lambda: (h @ kernel) * (kernel**2).sum(0)[None],
        lambda: h @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)),
        lambda: h @ jnp.where(kernel > 0, kernel, 0.1 * kernel),
        lambda: h @ (kernel + w(n, 2) @ w(2, kernel.shape[1])),
    )
    return pick(ways, how)()


def experts(w, h, g, how):
    count, hidden, n = 5, w.width(), h.shape[1]
    value, index = lax.top_k(jax.nn.softmax(w.linear(h, count), 1), 2)
    up, down = w(count, n, hidden), w(count, hidden, n)
    if how % 2:
        return jnp.einsum(
            "tk,tki->ti",
            value,
            jnp.einsum("tkh,tkhi->tki", jnp.tanh(jnp.einsum("ti,tkih->tkh", h, up[index])), down[index]),
        )
    every = jnp.einsum("teh,ehi->tei", jax.nn.relu(jnp.einsum("ti,eih->teh", h, up)), down)
    return jnp.einsum("te,tei->ti", jax.nn.softmax(w.linear(h, count), 1), every)


def stack(w, h, g, how):
    other = w.like(h, g)
    ways = (
        lambda: jnp.stack([h, other]).mean(0),
        lambda: flat(jnp.stack([h, other], 2)),
        lambda: flat(jnp.stack([h, jnp.tanh(other)], 1)),
        lambda: jnp.where(h > other, h, 0.5 * other),
        lambda: jnp.maximum(h, other),
        lambda: jax.vmap(lambda a, b: a * (a @ b))(h, other) / 4,
    )
    return pick(ways, how)()


OPERATIONS = {
    one.__name__: one
    for one in (
        *(dense, act, add, multiply, residual, concatenate, split, shuffle, reshape, mix, attention, gate, scan, cond),
        *(loop, gather, scatter, norm, pool, order, cut, embed, softmax, einsum, conv, tied, experts, stack),
    )
}
Program = tuple[Step, ...]
steps = st.builds(Step, st.sampled_from(list(OPERATIONS)), st.integers(0, 3), st.integers(0, 3), st.integers(0, 11))
programs: st.SearchStrategy[Program] = st.lists(steps, min_size=1, max_size=6).map(tuple)


def interpret(program: Program, w: Tape, x, ids):
    """A linear map in, the steps, and a linear map out of the last two values."""
    values = [w.linear(x) + w(5, WIDTHS[0])[ids]]
    for step in program:
        h, g = (values[-1 - back % len(values)] for back in (step.of, step.beside))
        made = OPERATIONS[step.name](w, h, g, step.how)
        # of one unit nothing can be taken
        values.append(made if made.shape[1] > 1 else w.linear(made))
    return sum(w.linear(h, OUTPUTS) for h in values[-2:])


def realise(program: Program, seed: int = 0) -> Realised:
    """The program as a function of its weights and inputs, with generic ones."""
    rng = np.random.default_rng(seed)
    x, ids = rng.standard_normal((ROWS, INPUTS), np.float32), rng.permutation(5)[:ROWS]
    tape = Tape()
    jax.eval_shape(lambda x, ids: interpret(program, tape, x, ids), x, ids)
    size = lambda shape: max(1, shape[-2] if len(shape) > 1 else 1) ** -0.5
    params = {
        name: rng.standard_normal(shape, np.float32) * np.float32(size(shape)) for name, shape in tape.shapes.items()
    }
    # traced once for all who read it, and seen by them without a call around it
    apply = jax.jit(lambda params, x, ids: interpret(program, Tape(params), x, ids), inline=True)
    return Realised(apply, params, (x, ids))
