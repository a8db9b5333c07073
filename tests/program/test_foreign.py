"""Models of other libraries: errors that name the call that helps, arrays beside the weights that go with them."""

from typing import NamedTuple

import flax.linen as linen
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import InferenceError, infer_spec
from tests import drawn

X = drawn.normal(3, 5)
WEIGHTS = {"one": drawn.named(kernel=(5, 6), bias=(1, 6)), "two": drawn.named(kernel=(6, 2))}
AXES = ["_, h0", "_, h0", "h0, _"]


def apply(params, x):
    return jnp.tanh(x @ params["one"]["kernel"] + params["one"]["bias"]) @ params["two"]["kernel"]


class Moments(NamedTuple):
    count: jax.Array
    mu: dict
    nu: dict


def test_moments_and_averages_of_weights_follow_them():
    state = (Moments(np.zeros(()), WEIGHTS, WEIGHTS), ())
    spec = infer_spec(lambda p, x: apply(p["params"], x), {"params": WEIGHTS, "optimiser": state}, X)
    assert [str(axes) for axes in spec.leaves] == ["", *AXES, *AXES, *AXES]
    average = {"average": drawn.normal(1, 6), "counter": np.zeros((), int), "hidden": drawn.normal(1, 6)}
    program = lambda p, x: (
        apply(p["params"], x) + (jnp.tanh(x @ p["params"]["one"]["kernel"]) * p["mean"]["average"]).sum()
    )
    spec = infer_spec(program, {"params": WEIGHTS, "mean": average}, X)
    assert [str(axes) for axes in spec.leaves][:3] == ["_, h0", "", "_, h0"]


def test_arrays_that_only_look_alike_stay():
    spare = {**WEIGHTS, "three": WEIGHTS["one"], "four": WEIGHTS["two"]}
    assert str(infer_spec(apply, spare, X).axes["three"]["kernel"]) == "_, _"
    larger = jax.tree.map(lambda leaf: drawn.normal(*leaf.shape[:-1], 8), WEIGHTS)
    spec = infer_spec(lambda p, x: apply(p["params"], x), {"params": WEIGHTS, "other": larger}, X)
    assert str(spec.axes["other"]["one"]["kernel"]) == "_, _"


def test_new_state_among_the_outputs_is_named():
    params = {"params": WEIGHTS, "state": {"norm": {"mean": drawn.normal(1, 6)}}}

    def stateful(p, x):
        mean = (x @ p["params"]["one"]["kernel"]).mean(0, keepdims=True)
        return apply(p["params"], x) - p["state"]["norm"]["mean"].sum(), {"norm": {"mean": mean}}

    assert "let apply return its predictions alone" in infer_spec(stateful, params, X).describe()


def test_errors_name_the_call_that_helps():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(5, 2, 6, 2, key=jax.random.key(0))
    run = lambda m, x: jax.vmap(m)(x)
    for params in (model, eqx.filter(model, eqx.is_array)):
        with pytest.raises(InferenceError, match=r"eqx\.partition"):
            infer_spec(run, params, X)
    arrays, static = eqx.partition(model, eqx.is_array)
    with pytest.raises(InferenceError) as wrong:
        infer_spec(lambda p, x: run(eqx.combine(p, static), x), arrays, X[:, :3])
    assert "eqx" not in str(wrong.value)


def test_errors_for_modules_in_place_of_functions():
    model = linen.Sequential([linen.Dense(6), linen.relu, linen.Dense(2)])
    params = drawn.started(model.init, X)
    with pytest.raises(InferenceError, match=r"let apply be `module\.apply`"):
        infer_spec(model, params, X)
    with pytest.raises(InferenceError) as wrong:
        infer_spec(model.apply, params, X[:, :3])
    assert "module.apply" not in str(wrong.value)


def test_a_module_of_torch_in_place_of_a_function():
    torch = pytest.importorskip("torch")
    with pytest.raises(InferenceError, match=r"dwalign\.from_model\(module, \*inputs\)"):
        infer_spec(torch.nn.Linear(5, 2), WEIGHTS, X)


def test_errors_for_nnx_and_haiku():
    model = nnx.Linear(5, 2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    with pytest.raises(InferenceError, match=r"nnx\.split"):
        infer_spec(lambda p, x: p(x), state, X)
    with pytest.raises(InferenceError, match=r"must be a function, not a tuple.*nnx\.split"):
        infer_spec((graph, state), WEIGHTS, X)

    def transformed(params, rng, x):
        return apply(params, x)

    transformed.__module__ = "haiku._src.transform"
    with pytest.raises(InferenceError, match=r"hk\.transform_with_state"):
        infer_spec(transformed, WEIGHTS, X)
