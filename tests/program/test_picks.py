"""Units that an index picks: each expert's go by themselves where the same index picks all that they meet."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import CertificateError, certify, infer_spec, make_capture
from dwalign.symmetry import Axes, PermutationSpec, permute, random_perms

EXPERTS, HIDDEN, WIDTH, CHOSEN, TOKENS = 6, 5, 4, 2, 7
RNG = np.random.default_rng(0)


def weights(**shapes):
    return {name: RNG.normal(size=shape).astype("float32") for name, shape in shapes.items()}


X = RNG.normal(size=(TOKENS, WIDTH)).astype("float32")
MIXTURE = weights(
    router=(WIDTH, EXPERTS),
    up=(EXPERTS, WIDTH, HIDDEN),
    bias=(EXPERTS, HIDDEN),
    down=(EXPERTS, HIDDEN, WIDTH),
)
BY_EXPERT = {"router": "_, h0", "up": "h0, _, h1", "bias": "h0, h1", "down": "h0, h1, _"}


def route(p, x):
    return jax.lax.top_k(jax.nn.softmax(x @ p["router"]), CHOSEN)


def mixture(take=lambda w, at: w[at], between=jnp.tanh, other=lambda at: at, out="tkh,tkho->tko"):
    """The two experts with the best scores, of which `other` says where the second kernel is looked up."""

    def apply(p, x):
        gates, at = route(p, x)
        h = jnp.einsum("ti,tkih->tkh", x, take(p["up"], at)) + take(p["bias"], at)
        y = jnp.einsum(out, between(h), take(p["down"], other(at)))
        return jnp.einsum("tk,tko->to", gates, y) if y.ndim == 3 else y

    return apply


def best(p, x):
    return jnp.argmax(x @ p["router"], -1)


def expert(p, x, at, other=None):
    return jnp.tanh(x @ p["up"][at] + p["bias"][at]) @ p["down"][at if other is None else other]


def one_by_one(p, x):
    def row(w, at):
        return jax.lax.dynamic_index_in_dim(w, at, keepdims=False)

    def token(both):
        one, at = both
        return jnp.tanh(one @ row(p["up"], at) + row(p["bias"], at)) @ row(p["down"], at)

    return jax.lax.map(token, (x, best(p, x)))


def slot_by_slot(p, x, cut=lambda w, at, k: w[at[:, k]]):
    gates, at = route(p, x)
    total = jnp.zeros_like(x)
    for k in range(CHOSEN):
        h = jnp.tanh(jnp.einsum("ti,tih->th", x, cut(p["up"], at, k)) + cut(p["bias"], at, k))
        total = total + gates[:, k, None] * jnp.einsum("th,tho->to", h, cut(p["down"], at, k))
    return total


def vmapped(p, x):
    gates, at = route(p, x)
    return jax.vmap(lambda one, g, at: g @ jax.vmap(lambda k: expert(p, one, k))(at))(x, gates, at)


def three_times(p, x):
    for _ in range(3):
        x = x + vmapped(p, x)
    return x


def looped(p, x, cut=lambda at: at):
    at = best(p, x)
    rows = p["up"][at], p["bias"][at], p["down"][cut(at)]
    return jax.lax.map(lambda one: jnp.tanh(one[0] @ one[1] + one[2]) @ one[3], (x, *rows))


def in_turns(p, x):
    """Two loops over index vectors, one inside the other: each sees a row of its own."""
    at = jnp.stack([jnp.argmax(jnp.roll(x[:CHOSEN], k, 0) @ p["router"], -1) for k in range(CHOSEN)])
    vectors = jnp.concatenate([at[..., None], jnp.zeros_like(at)[..., None]], -1)
    look = lambda w, at: jax.lax.gather(
        w, at, jax.lax.GatherDimensionNumbers(tuple(range(1, w.ndim)), (0,), (0, 1)), (1, *w.shape[1:])
    )

    def turns(first):
        def inner(second):
            h = jnp.einsum("i,kih->kh", x[0], look(p["up"], first)) + look(p["bias"], first)
            return jnp.einsum("kh,kho->ko", jnp.tanh(h), look(p["down"], second))

        return jax.lax.map(inner, vectors)

    return jax.lax.map(turns, vectors)


def branched(cases):
    return lambda h: jax.lax.cond(h.sum() > 0, *cases, h)


BATCHED = {
    "indexed": mixture(),
    "taken": mixture(lambda w, at: jnp.take(w, at, axis=0)),
    "clipped": mixture(lambda w, at: w.at[at].get(mode="clip")),
    "one after the other": one_by_one,
    "slot by slot": slot_by_slot,
    "slots of all that was gathered": lambda p, x: slot_by_slot(p, x, lambda w, at, k: w[at][:, k]),
    "vmapped": vmapped,
    "the same layer three times": three_times,
    "summed with the contraction": mixture(out="tkh,tkho->to"),
    "with its norm": mixture(between=lambda h: h / jnp.linalg.norm(h, axis=-1, keepdims=True)),
    "rows of a loop": looped,
    "rematerialised": lambda p, x: jax.checkpoint(mixture())(p, x),
    "either of two": mixture(between=branched([jnp.tanh, jnp.sin])),
    "nothing or all": mixture(between=branched([jnp.zeros_like, jnp.sin])),
    "put together and parted": mixture(
        between=lambda h: jnp.add(*jnp.split(jnp.concatenate([h, jnp.sin(h)], -1), 2, -1))
    ),
}


@pytest.mark.parametrize("name", BATCHED)
def test_units_of_each_expert_go_by_themselves(name):
    spec = infer_spec(BATCHED[name], MIXTURE, X)
    assert {path: str(axes) for path, axes in spec.axes.items()} == BY_EXPERT and dict(spec.batch) == {"h1": ("h0",)}
    certify(spec, BATCHED[name], MIXTURE, X)


def with_square_routing(apply):
    """As many tokens as experts for each: dimensions of one size that are not the same."""
    return lambda p, x: apply(p, jax.lax.top_k(x[:CHOSEN] @ p["router"], CHOSEN)[1], x[0])


def crossed(p, at, x):
    h = jnp.einsum("i,abih->abh", x, p["up"][at]) + p["bias"][at]
    return jnp.einsum("abh,abho->abo", h, p["down"][at].swapaxes(0, 1))


def added_across(p, at, x):
    h = jnp.einsum("i,abih->abh", x, p["up"][at]) + p["bias"][at]
    return jnp.einsum("abh,abho->abo", h + jnp.tanh(h.swapaxes(0, 1)), p["down"][at])


def carried(p, x):
    def token(state, both):
        one, at = both
        return jnp.tanh(state + one @ p["up"][at] + p["bias"][at]), state @ p["down"][at]

    return jax.lax.scan(token, jnp.zeros(HIDDEN), (x, best(p, x)))[1]


def of_the_turn_before(p, x):
    at = best(p, x)
    return jax.lax.scan(lambda before, both: (both[1], expert(p, both[0], before, both[1])), at[0], (x, at))[1]


def collected(p, x):
    at = best(p, x)
    h = jax.lax.map(lambda both: jnp.tanh(both[0] @ p["up"][both[1]] + p["bias"][both[1]]), (x, at))
    return jnp.einsum("th,tho->to", h, p["down"][at[::-1]])


def moved_in_a_loop(p, x):
    at = best(p, x)
    h = jnp.einsum("ti,tih->th", x, p["up"][at]) + p["bias"][at]
    turn = lambda _, s: (jnp.roll(s[0], 1, 0), s[1] + jnp.einsum("th,tho->to", jnp.tanh(s[0]), p["down"][at]))
    return jax.lax.fori_loop(0, 2, turn, (h, x))[1]


def elsewhere_in_a_branch(p, x):
    at = best(p, x)
    look = lambda turn: lambda w: jnp.einsum("ti,tih->th", x, w[at[::turn]])
    h = jax.lax.cond(x.sum() > 0, look(1), look(-1), p["up"]) + p["bias"][at]
    return jnp.einsum("th,tho->to", jnp.tanh(h), p["down"][at])


def all_experts(p, x):
    return jnp.einsum("tkh,eho->to", jnp.tanh(jnp.einsum("ti,tkih->tkh", x, p["up"][route(p, x)[1]])), p["down"])


def largest_unit_of_another(p, x):
    at = best(p, x)
    h = jnp.einsum("ti,tih->th", x, p["up"][at]) + p["bias"][at]
    return p["down"][at[::-1], jnp.argmax(h, -1)]


SHARED = {
    "slots reversed": mixture(other=lambda at: at[:, ::-1]),
    "tokens rolled": mixture(other=lambda at: jnp.roll(at, 1, 0)),
    "the next expert": mixture(other=lambda at: (at + 1) % EXPERTS),
    "the first slot for all": mixture(other=lambda at: jnp.broadcast_to(at[:, :1], at.shape)),
    "units that move on": mixture(between=lambda h: h[:, ::-1]),
    "units added to others": mixture(between=lambda h: jnp.tanh(h) + h[:, ::-1]),
    "less their mean": mixture(between=lambda h: jnp.tanh(h - h.mean(1, keepdims=True))),
    "summed up on the way": mixture(between=lambda h: jnp.cumsum(h, 1)),
    "sorted by slot": mixture(between=lambda h: jnp.sort(h, 1)),
    "with the largest of all tokens": mixture(between=lambda h: jnp.tanh(h) + h.max(0, keepdims=True)),
    "every slot with every other": mixture(out="tkh,tjho->tjo"),
    "moved in one branch": mixture(between=branched([lambda h: h, lambda h: h[:, ::-1]])),
    "crossed": with_square_routing(crossed),
    "added across": with_square_routing(added_across),
    "carried": carried,
    "of the turn before": of_the_turn_before,
    "collected": collected,
    "moved in a loop": moved_in_a_loop,
    "rows of a loop that do not belong together": lambda p, x: looped(p, x, lambda at: at[::-1]),
    "rows of two loops": lambda p, x: in_turns(p, x),
    "elsewhere in a branch": elsewhere_in_a_branch,
    "all experts": all_experts,
    "the largest unit of another": largest_unit_of_another,
}


@pytest.mark.parametrize("name", SHARED)
def test_units_that_meet_those_of_another_expert_are_shared(name):
    apply = SHARED[name]
    spec = infer_spec(apply, MIXTURE, X)
    (inner,) = {*Axes.names(spec.axes["up"])} & {g for g, n in spec.sizes.items() if n == HIDDEN}
    assert inner not in spec.batch
    certify(spec, apply, MIXTURE, X)
    tempting = {
        "router": Axes(None, None),
        "up": Axes("e", None, "h"),
        "bias": Axes("e", "h"),
        "down": Axes("e", "h", None),
    }
    with pytest.raises(CertificateError):
        certify(PermutationSpec(tempting, {"h": HIDDEN}, batch={"h": ("e",)}, fixed={"e": EXPERTS}), apply, MIXTURE, X)


def test_a_kernel_that_experts_share_has_one_order():
    params = weights(router=(WIDTH, EXPERTS), up=(EXPERTS, WIDTH, HIDDEN), down=(HIDDEN, WIDTH))
    apply = lambda p, x: jnp.tanh(jnp.einsum("ti,tih->th", x, p["up"][best(p, x)])) @ p["down"]
    assert not infer_spec(apply, params, X).batch


def test_gate_and_up_in_one_kernel():
    params = weights(router=(WIDTH, EXPERTS), up=(EXPERTS, WIDTH, 2 * HIDDEN), down=(EXPERTS, HIDDEN, WIDTH))

    def apply(p, x):
        gates, at = route(p, x)
        gate, up = jnp.split(jnp.einsum("ti,tkih->tkh", x, p["up"][at]), 2, -1)
        return jnp.einsum("tkh,tkho->to", jax.nn.silu(gate) * up * gates[..., None], p["down"][at])

    spec = infer_spec(apply, params, X)
    assert str(spec.axes["up"]) == "h0, _, h1 + h1" and spec.batch["h1"] == ("h0",)
    certify(spec, apply, params, X)


def test_experts_in_scanned_layers():
    params = {name: RNG.normal(size=(3, *w.shape)).astype("float32") for name, w in MIXTURE.items()}
    apply = lambda p, x: jax.lax.scan(lambda x, w: (x + mixture()(w, x), None), x, p)[0]
    spec = infer_spec(apply, params, X)
    assert {path: str(axes) for path, axes in spec.axes.items()} == {k: f"f0, {v}" for k, v in BY_EXPERT.items()}
    assert spec.batch["h1"] == ("f0", "h0")
    certify(spec, apply, params, X)


def test_any_index_picks():
    layers = weights(a=(3, WIDTH, HIDDEN), b=(3, HIDDEN, WIDTH))
    loop = lambda p, x: jax.lax.fori_loop(0, 3, lambda k, x: x + jnp.tanh(x @ p["a"][k]) @ p["b"][k], x)
    labels = np.array([0, 2, 1, 1, 0, 2, 2])
    given = lambda p, x, at: jax.vmap(lambda one, k: jnp.tanh(one @ p["a"][k]) @ p["b"][k])(x, at)
    for apply, inputs in ((loop, (X,)), (given, (X, labels))):
        spec = infer_spec(apply, layers, *inputs)
        assert [str(axes) for axes in spec.leaves] == ["f0, _, h0", "f0, h0, _"] and spec.batch["h0"] == ("f0",)
        certify(spec, apply, layers, *inputs)


def ragged(counts=lambda counts: counts, rows=lambda rows: rows):
    def apply(p, x):
        at = best(p, x)
        order, sizes = jnp.argsort(at), jnp.bincount(at, length=EXPERTS)
        h = jnp.tanh(jax.lax.ragged_dot(x[order], p["up"], sizes))
        return jnp.zeros_like(x).at[order].set(jax.lax.ragged_dot(rows(h), p["down"], counts(sizes)))

    return apply


def test_rows_sorted_by_their_expert():
    params = {name: MIXTURE[name] for name in ("router", "up", "down")}
    spec = infer_spec(ragged(), params, X)
    assert (str(spec.axes["up"]), str(spec.axes["down"])) == ("f0, _, h0", "f0, h0, _") and spec.batch["h0"] == ("f0",)
    certify(spec, ragged(), params, X)
    for apply in (ragged(counts=lambda sizes: sizes[::-1]), ragged(rows=lambda rows: rows[::-1])):
        assert not infer_spec(apply, params, X).batch


def with_biases(sorted_by=lambda at: at, counted=lambda at: at, biases=lambda at, order: at[order]):
    def apply(p, x):
        at = best(p, x)
        order, sizes = jnp.argsort(sorted_by(at)), jnp.bincount(counted(at), length=EXPERTS)
        h = jnp.tanh(jax.lax.ragged_dot(x[order], p["up"], sizes) + p["bias"][biases(at, order)])
        return jnp.zeros_like(x).at[order].set(jax.lax.ragged_dot(h, p["down"], sizes))

    return apply


def test_biases_of_sorted_rows_are_those_of_their_expert():
    apply = with_biases()
    spec = infer_spec(apply, MIXTURE, X)
    assert str(spec.axes["bias"]) == "f0, h0" and spec.batch["h0"] == ("f0",)
    certify(spec, apply, MIXTURE, X)
    for other in (
        dict(sorted_by=lambda at: -at),
        dict(counted=lambda at: (at + 1) % EXPERTS),
        dict(counted=lambda at: at[::-1]),
        dict(biases=lambda at, order: at),
        dict(biases=lambda at, order: order % EXPERTS),
        dict(biases=lambda at, order: at[order][::-1]),
        dict(biases=lambda at, order: jnp.where(order > 2, at[order], at)),
    ):
        apply = with_biases(**other)
        spec = infer_spec(apply, MIXTURE, X)
        assert not spec.batch and "h0" in spec.axes["bias"].names()
        certify(spec, apply, MIXTURE, X)


def test_captured_units_stand_with_their_expert():
    spec = infer_spec(mixture(), MIXTURE, X)
    perms = random_perms(spec, jax.random.key(0))
    run = jax.jit(lambda p: make_capture(mixture())(p, X, lambda outputs: jnp.sum(jnp.sin(outputs)))[1])
    units, moved = run(MIXTURE), run(permute(spec, MIXTURE, perms))
    for before, after in zip(units[:3], moved[:3], strict=True):
        # units of an expert move with their own permutation first, then with the expert
        own = jnp.take_along_axis(before["h1"], perms["h1"][None, None], -1)
        chex.assert_trees_all_close(after["h1"], own[:, :, perms["h0"]], atol=1e-5)
    at = route(MIXTURE, X)[1]
    chosen = (units.post["h1"][:, :CHOSEN] != 0).any(-1)
    chex.assert_trees_all_equal(chosen, jax.nn.one_hot(at, EXPERTS, dtype=bool))
