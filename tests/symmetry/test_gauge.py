"""Laws of the gauge on networks of every kind: the function stays, what differs by factors and maps becomes one."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dwalign
from dwalign.networks import mlp, transformer, vgg, vit
from dwalign.program import infer_spec
from dwalign.symmetry import (
    Axes,
    Monomial,
    PermutationSpec,
    canonical,
    free_signs,
    gauge,
    identity,
    permute,
    random_perms,
    weight_blocks,
)
from tests import drawn


class Case(NamedTuple):
    apply: Any
    spec: PermutationSpec
    params: Any
    inputs: Any


def lora(params, x):
    return jax.nn.relu(x @ (params["w"] + params["a"] @ params["b"])) @ params["head"]


NETWORKS = {
    "mlp": lambda: mlp(4, (6, 5, 7), 3),
    "vgg": lambda: vgg((8, 8, 3), ((4,), (5, 6)), (7,), 3, norm="batch"),
    "vit": lambda: vit((8, 8, 3), 4, 8, 2, 2, None, 12, 3),
    "gated": lambda: transformer(7, 5, 8, 1, 2, 1, 12, "rms", gated=True),
    "lora": lambda: dwalign.network(lora, drawn.named(w=(4, 9), a=(4, 3), b=(3, 9), head=(9, 2)), np.ones((2, 4))),
}


@functools.cache
def case(name):
    network = NETWORKS[name]()
    one = network.example
    inputs = np.arange(10).reshape(2, 5) % 7 if name == "gated" else drawn.normal(2, *one.shape[1:])
    spec = infer_spec(network.apply, network.params, inputs, kinds="all")
    return Case(jax.jit(network.apply), spec, drawn.weights(network.params), inputs)


def planted(spec, seed, *kinds):
    """A random element without orders, of these kinds of factors and maps."""
    drawn_at_random = random_perms(spec, np.random.default_rng(seed))

    def kept(element, order):
        if isinstance(element, Monomial):
            sign = element.sign if "sign" in kinds else None
            return Monomial(order, element.scale if "scale" in kinds else None, sign)
        return element if element.ndim > order.ndim and "linear" in kinds else order

    return {g: kept(element, identity(spec)[g]) for g, element in drawn_at_random.items()}


def close(a, b, tolerance=1e-4):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance * max(1e-6, abs(np.asarray(y)).max()), rtol=0)


def size(spec, params):
    return sum(float((block.array**2).sum()) for block in weight_blocks(spec, params))


def test_they_have_every_kind():
    kinds = {kind for name in NETWORKS for kind in case(name).spec.kinds.values()}
    assert kinds == {"permutation", "scale", "monomial", "linear"}


@pytest.mark.parametrize("basis", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays(name, basis):
    apply, spec, params, inputs = case(name)
    found = canonical(spec, params, basis=basis)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    before, after = apply(params, inputs), apply(found, inputs)
    assert abs(before - after).max() < 1e-5 * abs(before).max()
    # and something was done
    assert size(spec, found) < 0.999 * size(spec, params)


@pytest.mark.parametrize("name", NETWORKS)
def test_factors_and_maps_are_undone(name):
    _, spec, params, _ = case(name)
    other = permute(spec, params, planted(spec, 3, "scale", "linear"))
    with pytest.raises(AssertionError):
        close(other, params, 0.1)
    close(canonical(spec, other), canonical(spec, params))


@pytest.mark.parametrize("name", NETWORKS)
def test_orders_of_units_move_on(name):
    _, spec, params, _ = case(name)
    # the order of units that a map may mix is none
    orders = {g: order for g, order in drawn.perms(spec, 4).items() if spec.kinds[g] != "linear"}
    close(canonical(spec, permute(spec, params, orders)), permute(spec, canonical(spec, params), orders))


@pytest.mark.parametrize("name", NETWORKS)
def test_done_twice_is_done_once(name):
    _, spec, params, _ = case(name)
    once = canonical(spec, params)
    close(canonical(spec, once), once)


def test_nothing_in_the_group_is_smaller():
    for name in NETWORKS:
        _, spec, params, _ = case(name)
        found = canonical(spec, params)
        for seed in range(3):
            other = permute(spec, found, planted(spec, seed, "scale", "linear", "sign"))
            assert size(spec, other) > size(spec, found)


def test_a_deep_network_settles_too():
    """Layer by layer a change would take hundreds of rounds to get through."""
    depth = 24
    axes = [Axes(f"h{k}^-1", f"h{k + 1}") for k in range(depth)]
    axes = [Axes(None, "h0"), *axes, Axes(f"h{depth}^-1", None)]
    sizes = {f"h{k}": 5 for k in range(depth + 1)}
    spec = PermutationSpec(axes, sizes, kinds=dict.fromkeys(sizes, "scale"))
    params = [drawn.normal(5, 5, seed=k).astype(np.float64) for k in range(depth + 2)]
    close(canonical(spec, permute(spec, params, planted(spec, 11, "scale"))), canonical(spec, params), 1e-7)


def test_maps_beside_one_array_settle_together():
    """What one of them asks for depends on the other: the product of all, and the size, tell that both are in place."""
    axes = [Axes(None, "h"), Axes("h^-1", "k"), Axes("k^-1", None)]
    spec = PermutationSpec(axes, {"h": 2, "k": 2}, kinds={"h": "linear", "k": "linear"})
    first, middle, last = params = [drawn.normal(*shape, seed=3) for shape in ((4, 2), (2, 2), (2, 5))]
    found = canonical(spec, permute(spec, params, planted(spec, 3, "linear")))
    values = np.linalg.svd(first @ middle @ last, compute_uv=False)[:2]
    # all three share the singular values of their product alike
    np.testing.assert_allclose(size(spec, found), 3 * (values ** (2 / 3)).sum(), rtol=1e-5)
    np.testing.assert_allclose(found[0] @ found[1] @ found[2], first @ middle @ last, atol=1e-4)


def test_in_and_out_have_one_norm():
    _, spec, params, _ = case("mlp")
    layers = canonical(spec, params)["params"]
    for before, after in ((0, 1), (1, 2), (2, 3)):
        first, second = layers[f"dense_{before}"], layers[f"dense_{after}"]
        written = (first["kernel"] ** 2).sum(0) + first["bias"] ** 2
        np.testing.assert_allclose(written, (second["kernel"] ** 2).sum(1), rtol=1e-5)


@pytest.mark.parametrize("basis", [True, False])
def test_both_factors_of_a_product_are_alike(basis):
    _, spec, params, _ = case("lora")
    found = canonical(spec, params, basis=basis)
    one, other = found["a"].T @ found["a"], found["b"] @ found["b"].T
    np.testing.assert_allclose(one, other, atol=1e-5 * one.max())
    if basis:
        # of W = A B the other group scales columns, so that these are not the singular values of the first product
        np.testing.assert_allclose(np.diag(one), np.linalg.svd(found["a"] @ found["b"])[1][:3], rtol=1e-5)
        np.testing.assert_allclose(one, np.diag(np.diag(one)), atol=1e-5 * one.max())
    else:
        matrix = gauge(spec, params, basis=False)["h0" if spec.kinds["h0"] == "linear" else "h1"]
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
        assert np.linalg.eigvalsh(matrix).min() > 0


def test_signs_of_gains_are_sure_and_those_of_biases_are_not():
    _, spec, params, _ = case("vgg")
    other = permute(spec, params, planted(spec, 5, "scale", "sign"))
    assert min(other["params"]["norm_1_0"]["scale"]) < 0
    close(canonical(spec, other), canonical(spec, params))
    tanh = PermutationSpec({"up": Axes(None, "h"), "b": Axes("h"), "down": Axes("h")}, {"h": 8}, kinds={"h": "sign"})
    params = {"up": drawn.normal(3, 8), "b": drawn.normal(8, seed=1), "down": drawn.normal(8, seed=2)}
    close(canonical(tanh, params), params, 0)
    close(canonical(tanh, params | {"b": -1 - 0.1 * params["b"]})["b"], 1 + 0.1 * params["b"])


def test_dead_units_stay_and_the_others_do_as_if_there_were_none():
    _, spec, params, _ = case("mlp")
    kernels = {k: layer["kernel"].copy() for k, layer in params["params"].items()}
    # nothing reads the first unit of a layer, nothing writes the second of another
    kernels["dense_1"][0] = 0
    kernels["dense_1"][:, 1] = 0
    layers = {k: layer | {"kernel": kernels[k]} for k, layer in params["params"].items()}
    layers["dense_1"]["bias"] = np.where(np.arange(5) == 1, 0, layers["dense_1"]["bias"])
    dead = {"params": layers}
    found = canonical(spec, dead)
    np.testing.assert_array_equal(found["params"]["dense_0"]["kernel"][:, 0], kernels["dense_0"][:, 0])
    other = canonical(spec, permute(spec, dead, planted(spec, 6, "scale")))
    cut = [None, np.delete(np.arange(6), 0), np.delete(np.arange(5), 1), np.arange(7), None]
    for k in range(4):
        rows, columns = (slice(None) if part is None else part for part in cut[k : k + 2])
        one, two = (net["params"][f"dense_{k}"]["kernel"][rows][:, columns] for net in (found, other))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("module", "name"), [("conv_0_0", "kernel"), ("norm_0_0", "scale"), ("norm_0_0", "bias")])
def test_factors_without_a_best_one_do_not_run_away(module, name):
    apply, spec, params, inputs = case("vgg")
    zero = {name: params["params"][module][name] * (np.arange(4) > 0).astype(np.float32)}
    dead = params | {"params": params["params"] | {module: params["params"][module] | zero}}
    found = gauge(spec, dead)
    assert max(abs(np.log(found[g].scale)).max() for g in spec.sizes) < 3
    moved = gauge(spec, permute(spec, dead, planted(spec, 10, "scale")))
    one, two = (permute(spec, dead, found), permute(spec, permute(spec, dead, planted(spec, 10, "scale")), moved))
    np.testing.assert_allclose(apply(one, inputs), apply(dead, inputs), rtol=1e-4, atol=1e-5)
    # the first channel is at fault, and its neighbours do not mind
    for path in (("conv_0_0", "kernel"), ("norm_0_0", "scale"), ("norm_0_0", "bias"), ("norm_1_0", "scale")):
        first, second = (np.asarray(net["params"][path[0]][path[1]]) for net in (one, two))
        np.testing.assert_allclose(first[..., 1:], second[..., 1:], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("zero", ["a", "b"])
def test_a_product_that_is_zero_or_has_no_full_rank(zero):
    apply, spec, params, inputs = case("lora")
    none = params | {zero: np.zeros_like(params[zero])}
    found = canonical(spec, none)
    np.testing.assert_allclose(apply(found, inputs), apply(none, inputs), rtol=1e-4)
    half = params | {zero: params[zero] * np.float32([1, 1, 0]).reshape((3, 1) if zero == "b" else (1, 3))}
    other = permute(spec, half, planted(spec, 7, "linear", "scale"))
    found = gauge(spec, other)
    np.testing.assert_allclose(apply(permute(spec, other, found), inputs), apply(half, inputs), rtol=1e-4, atol=1e-5)
    (matrix,) = (found[g] for g, kind in spec.kinds.items() if kind == "linear")
    assert np.linalg.cond(matrix) < 100


def test_an_array_may_carry_a_group_twice():
    axes = {"up": Axes(None, "h"), "again": Axes("h^-1", "h"), "down": Axes("h^-1", None)}
    spec = PermutationSpec(axes, {"h": 6}, kinds={"h": "scale"})
    params = drawn.named(up=(3, 6), again=(6, 6), down=(6, 2))
    other = permute(spec, params, planted(spec, 8, "scale"))
    close(canonical(spec, other), canonical(spec, params))


@pytest.mark.parametrize("name", ["mlp", "lora"])
def test_jit_and_vmap(name):
    _, spec, params, _ = case(name)
    other = permute(spec, params, planted(spec, 9, "scale", "linear"))
    both = jax.jit(jax.vmap(functools.partial(canonical, spec)))(jax.tree.map(lambda *x: np.stack(x), params, other))
    alone = canonical(spec, params)
    close(both, jax.tree.map(lambda x: np.stack([x, x]), alone), 1e-3)


def test_storage_is_kept():
    _, spec, params, _ = case("vgg")
    stored = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
    found = canonical(spec, stored)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    close(jax.tree.map(np.float32, found), canonical(spec, params), 0.05)


def test_what_no_weight_determines_stays():
    """Factors that only a statistic has, and those that nothing undoes."""
    spec = PermutationSpec({"w": Axes("h^0"), "running_mean": Axes("h")}, {"h": 3}, kinds={"h": "scale"})
    params = drawn.named(w=(3,), running_mean=(3,))
    close(canonical(spec, params), params, 0)
    axes = {"w": Axes("h"), "other": Axes("h", "k"), "back": Axes("k^-1")}
    spec = PermutationSpec(axes, {"h": 3, "k": 2}, kinds={"h": "scale", "k": "scale"})
    params = drawn.named(w=(3,), other=(3, 2), back=(2,))
    close(canonical(spec, params), params, 0)


def test_permutations_alone_leave_nothing_to_do():
    spec, params = mlp(4, (6, 5), 3).spec, drawn.weights(mlp(4, (6, 5), 3).params)
    assert all(x is y for x, y in zip(*map(jax.tree.leaves, (canonical(spec, params), params)), strict=True))
    assert all((element == np.arange(spec.sizes[g])).all() for g, element in gauge(spec, params).items())


def test_signs_that_a_gauge_has_chosen_are_not_free():
    """A gain that is clearly not zero fixes its own sign; one that is near zero in either network does not."""
    axes = {"in": Axes(None, "h^1:0"), "gain": Axes("h^0:1"), "out": Axes("h^1:1", None)}
    spec = PermutationSpec(axes, {"h": 4}, kinds={"h": "sign"})
    a = drawn.named(**{"in": (3, 4), "out": (4, 2)}) | {"gain": np.array([-1.0, 1.1, 0.9, -1.2], np.float32)}
    small = a | {"gain": np.array([-0.01, 1.1, 2.0, -1.2], np.float32)}
    one, two = canonical(spec, a), canonical(spec, small)
    assert free_signs(spec, one, one)["h"].tolist() == [[1, 0]]
    assert free_signs(spec, one, two)["h"].tolist() == [[1, 0], [0, 1]]
    reduced = spec.with_signs(free_signs(spec, one, one))
    assert [str(axes) for axes in reduced.written] == ["h^0", "_, h", "h, _"]
