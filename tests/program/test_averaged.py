"""What is computed on the mean of two networks without making its weights: the same numbers, in less work."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import on_average
from dwalign.symmetry import Axes, Monomial, PermutationSpec, interpolate, permute
from tests import drawn

N = 16
SIZES = {"g": N, "h": N}
X = drawn.normal(2, N)
SOFT = np.abs(drawn.normal(N, N)) / N
SIGNS = Monomial(SOFT, None, np.tanh(drawn.normal(N, N, 1)))
INVERTED = drawn.normal(N, N) / N + np.eye(N, dtype=np.float32)


@jax.custom_jvp
def doubled(w):
    return 2 * w


@doubled.defjvp
def _(primals, tangents):
    return doubled(*primals), 7 * tangents[0]


def plain(function, spec, a, b, elements, weight):
    return function(interpolate(spec, a, permute(spec, b, elements), weight))


def both(function, axes, element=SOFT, *, weight=0.3, kind=None):
    """What each way gives with its gradients, and its multiplications; every group has N units, `_` is 3 long."""
    axes = {name: Axes.parse(text) for name, text in axes.items()}
    groups = sorted({name.partition("^")[0] for one in axes.values() for name in one.names()})
    spec = PermutationSpec(axes, dict.fromkeys(groups, N), kinds=dict.fromkeys(groups, kind) if kind else None)
    length = lambda factor: N if isinstance(factor, str) else 3
    shapes = {name: [math.prod(map(length, dim[0])) for dim in one.dims] for name, one in axes.items()}
    a, b = (drawn.named(seed, **shapes) for seed in (1, 2))
    found = []
    for way in (plain, on_average):
        total = lambda elements, weight, way=way: jnp.sum(jnp.sin(way(function, spec, a, b, elements, weight)))
        given = dict.fromkeys(groups, element), weight
        run = jax.jit(jax.value_and_grad(total, (0, 1), allow_int=True)).lower(*given).compile()
        found.append((run(*given), run.cost_analysis()["flops"]))
    return found


def test_what_is_not_computed_stays_what_it_is():
    spec = PermutationSpec({"w": Axes("g", "h")}, SIZES)
    a, b = (drawn.named(seed, w=(N, N)) for seed in (1, 2))
    function = lambda params: {"out": X @ params["w"], "count": 3, "rate": 0.5, "x": X}
    elements = {"h": SOFT}
    found = on_average(function, spec, a, b, elements)
    assert {name: type(leaf) for name, leaf in found.items() if name != "out"} == {
        "count": int,
        "rate": float,
        "x": np.ndarray,
    }
    chex.assert_trees_all_close(found, plain(function, spec, a, b, elements, 0.5), rtol=1e-5, atol=1e-6)


SPARED = {
    "columns": (lambda w: X @ w["w"], {"w": "g, h"}),
    "rows": (lambda w: X @ w["w"].T, {"w": "h, g"}),
    "from the left": (lambda w: w["w"] @ X.T, {"w": "h, g"}),
    "inside of calls": (jax.jit(lambda w: jax.nn.relu(X @ w["w"])), {"w": "g, h"}),
    "positions": (lambda w: jnp.tile(X, 3) @ w["w"], {"w": "3*g, h"}),
    "rows of positions": (lambda w: jnp.tile(X, 3) @ w["w"].T, {"w": "h, 3*g"}),
    "three dimensions": (lambda w: jnp.einsum("bi,kij->bkj", X, w["w"]), {"w": "_, g, h"}),
    "two sums": (lambda w: jnp.einsum("bi,kij,bk->bj", X, w["w"], X[:, :3]), {"w": "_, g, h"}),
    "beside another type": (lambda w: jax.lax.dot(X.astype(jnp.bfloat16), w["w"]), {"w": "g, h"}),
    "read twice": (lambda w: jnp.tanh(X @ w["w"]) @ w["w"], {"w": "g, g"}),
    "two layers": (lambda w: jnp.tanh(X @ w["v"] + w["b"][None]) @ w["w"], {"v": "h, g", "b": "g", "w": "g, h"}),
}
MADE = {
    "returned": (lambda w: w["w"].T, {"w": "g, h"}),
    "added": (lambda w: w["w"] + jnp.sum(X @ w["w"]), {"w": "g, h"}),
    "many inputs": (lambda w: jnp.tile(X, (40, 1)) @ w["w"], {"w": "g, h"}),
    "with itself": (lambda w: X @ (w["w"].T @ w["w"]), {"w": "g, h"}),
    "turned by a reshape": (lambda w: X @ w["w"].reshape(N, 3, N)[:, 0], {"w": "g, 3*h"}),
    "in a loop": (lambda w: jax.lax.scan(lambda x, _: (jnp.tanh(x @ w["w"]), None), X, length=3)[0], {"w": "g, g"}),
    "with a gradient of its own": (lambda w: X @ doubled(w["w"]), {"w": "g, h"}),
    "each with its own input": (lambda w: jnp.einsum("ki,kij->kj", X[:1].repeat(3, 0), w["w"]), {"w": "_, g, h"}),
    "of another type": (lambda w: X.astype(jnp.bfloat16) @ w["w"].astype(jnp.bfloat16), {"w": "g, h"}),
}


@pytest.mark.parametrize("case", SPARED)
def test_weights_that_need_not_be_made(case):
    (expected, before), (found, after) = both(*SPARED[case])
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)
    assert after < 0.8 * before


@pytest.mark.parametrize("case", MADE)
def test_weights_that_are_made(case):
    (expected, before), (found, after) = both(*MADE[case])
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
    assert after <= 1.01 * before


@pytest.mark.parametrize(
    "kind, power, element",
    [("sign", "", SIGNS), ("sign", "^0", SIGNS), ("orthogonal", "", INVERTED), ("linear", "^-1", INVERTED)],
)
@pytest.mark.parametrize("axes", ["g{0}, h", "h, g{0}"])
def test_kinds(kind, power, element, axes):
    function, axes = lambda w: X @ w["w"], {"w": axes.format(power)}
    (expected, before), (found, after) = both(function, axes, element, kind=kind)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-3)
    assert after < before


def test_a_weight_for_each_layer():
    function, axes = SPARED["two layers"]
    (expected, _), (found, _) = both(function, axes, weight={"v": 0.2, "b": 0.5, "w": 0.9})
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_hard_orders_move_values_alone():
    function, axes = SPARED["columns"]
    (expected, before), (found, after) = both(function, axes, np.roll(np.arange(N, dtype=np.int32), 3))
    chex.assert_trees_all_equal(found[0], expected[0])
    assert after == before
