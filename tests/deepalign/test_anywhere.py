"""One set of parameters serves networks of every kind; what ships is found by its name, and says where it ends."""

import dataclasses

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import (
    Aligner,
    AlignerConfig,
    CheckpointError,
    build,
    choice,
    choose_method,
    deep_align,
    make_model,
    shipped,
)
from dwalign.deepalign.build import load_aligner
from dwalign.deepalign.dream import dream
from dwalign.encoders import noise
from dwalign.networks import from_module, mlp, recurrent, transformer
from dwalign.program import Data, network
from dwalign.symmetry import SpecError, inverse, permute
from tests import drawn
from tests.deepalign.untrained import untrained

CONFIG = AlignerConfig(encoder="noise", probes=16, updates=1)
HOME = mlp(6, (7, 5), 3)
TOKENS = transformer(vocabulary=8, length=4, dim=8, depth=1, heads=2)
NAMED = network(lambda params, inputs: HOME.apply(params, inputs["x"]), HOME.params, {"x": HOME.example})


@pytest.fixture(scope="module")
def variables():
    return untrained(make_model(HOME, CONFIG), drawn.weights(HOME.params))


@pytest.mark.parametrize("other", [mlp(4, (9,), 2), recurrent(3, (6,), 4, time=3)], ids=["mlp", "recurrent"])
def test_other_widths_depths_and_kinds_of_networks(other, variables):
    aligner = Aligner(make_model(other, CONFIG), variables)
    v, planted = drawn.weights(other.params, seed=2), drawn.perms(other.spec)
    found = deep_align(other.spec, v, permute(other.spec, v, planted), aligner=aligner)
    chex.assert_trees_all_equal(found.perms, inverse(other.spec, planted))


def test_dreams_are_what_both_networks_are_surer_of():
    a, b = (drawn.weights(HOME.params, seed) for seed in (3, 4))
    inputs = jnp.asarray(noise(HOME.example, 6))
    wanted = jnp.arange(6) % 3

    def sure(x):
        return sum(float(jax.nn.log_softmax(HOME.apply(v, x))[jnp.arange(6), wanted].sum()) for v in (a, b))

    dreamt = dream(HOME.respond, a, b, inputs)
    assert sure(dreamt) > sure(inputs)
    np.testing.assert_allclose(dreamt, dream(HOME.respond, b, a, inputs), rtol=1e-5, atol=1e-5)


def test_tokens_cannot_be_drawn_and_other_encoders_need_inputs():
    with pytest.raises(ValueError, match="must take one array"):
        noise(np.zeros((1, 4), np.int32), 8)
    with pytest.raises(ValueError, match="must get training inputs"):
        make_model(HOME, AlignerConfig(encoder="graph"))


def test_one_array_by_a_name_is_refused_in_words():
    for inputs in (None, {"x": np.zeros((4, 6), np.float32)}):
        with pytest.raises(SpecError, match="whose inputs are one array, found PyTreeDef"):
            load_aligner("any", network=NAMED, inputs=inputs)


def test_a_shipped_aligner_comes_back(tmp_path, monkeypatch, variables):
    sees = shipped.Shipped(CONFIG, variables)
    blind = shipped.Shipped(dataclasses.replace(CONFIG, updates=2), jax.tree.map(lambda x: x + 1, variables))
    shipped.write_shipped("some", sees, blind, {"licence": "MIT"}, tmp_path)
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    for asked, written in ((False, sees), (True, blind)):
        found = shipped.read_shipped("some", blind=asked)
        assert found.config == written.config
        chex.assert_trees_all_equal(found.variables, written.variables)


@pytest.mark.parametrize(
    "name, network", [("any", HOME), ("mnist", mlp(784, (3, 4, 5), 10)), ("mnist", mlp(784, (6,), 10))]
)
def test_the_aligners_of_the_package(name, network):
    with pytest.raises(CheckpointError, match="pass network="):
        load_aligner(name)
    aligner = load_aligner(name, network=network)
    needed = jax.eval_shape(aligner.model.init, jax.random.key(0), network.params, network.params)
    chex.assert_trees_all_equal_shapes(aligner.variables, needed)


def test_networks_without_hidden_units_have_nothing_to_align():
    linear = from_module(nn.Dense(3), np.ones((1, 4), np.float32), {})
    params = drawn.weights(linear.params)
    method = deep_align.using(aligner=load_aligner("any", network=linear))
    assert method(linear, params, params, key=None).perms == {}


def test_aligners_that_ship_are_small():
    assert sum(file.stat().st_size for file in shipped.HOME.iterdir()) < 5e6


def test_an_aligner_that_learned_its_inputs_brings_them(tmp_path, monkeypatch):
    config = AlignerConfig(
        encoder="graph", channels=4, features=4, depth=1, updates=1, descent=1, probes=3, shared=True
    )
    deep, inputs = mlp(6, (5, 4, 3), 3), np.ones((3, 6), np.float32)
    trained = untrained(make_model(deep, config, inputs), drawn.weights(deep.params))
    shipped.write_shipped("some", shipped.Shipped(config, trained), None, {"limits": "what it is for"}, tmp_path)
    monkeypatch.setattr(shipped, "HOME", tmp_path)
    monkeypatch.setattr(build, "SHIPPED", {"some"})
    aligner = load_aligner("some", network=HOME)
    chex.assert_trees_all_equal(aligner.variables["params"]["inputs"], trained["params"]["inputs"])
    v, planted = drawn.weights(HOME.params, seed=2), drawn.perms(HOME.spec)
    found = deep_align(HOME, v, permute(HOME.spec, v, planted), aligner=aligner)
    chex.assert_trees_all_equal(found.perms, inverse(HOME.spec, planted))
    with pytest.raises(ValueError, match="leave out inputs="):
        load_aligner("some", network=HOME, inputs=inputs)
    with pytest.raises(SpecError, match=r"inputs \(6,\), found \(4,\)"):
        load_aligner("some", network=mlp(4, (7, 5), 3))
    pictures = network(lambda params, x: HOME.apply(params, x.reshape(-1, 6)), HOME.params, np.ones((2, 2, 3, 1), "f"))
    assert load_aligner("some", network=pictures).variables["params"]["inputs"].shape == (3, 2, 3, 1)
    with pytest.raises(SpecError, match="'some' is for what it is for; fit_aligner: this network needs"):
        load_aligner("some", network=mlp(6, (7, 5), 2))


def test_the_choice_of_a_method_says_why():
    inputs = np.zeros((4, 6), np.float32)
    chosen = {
        "labels": choose_method(HOME, Data(inputs, np.zeros(4, int))),
        "inputs": choose_method(HOME, Data(inputs)),
        "spec": choose_method(HOME.spec, Data(inputs, np.zeros(4, int))),
        "tokens": choose_method(TOKENS),
        "inputs of tokens": choose_method(TOKENS, Data(np.zeros((4, 4), np.int32))),
        "named": choose_method(NAMED),
        "inputs by name": choose_method(NAMED, Data({"x": inputs})),
        "large": choose_method(mlp(1000, (200,), 3)),
    }
    methods = {name: str(choice.method) for name, choice in chosen.items()}
    assert methods["labels"] == "activation_matching_correlation+refine"
    assert methods["inputs"] == "deep_align"
    assert methods["inputs of tokens"] == methods["inputs by name"] == "activation_matching_correlation"
    assert methods["spec"] == methods["tokens"] == methods["named"] == methods["large"] == "anchored_matching"
    assert str(choose_method(HOME).method) == "deep_align"
    assert "more than" in chosen["large"].why and "real numbers" in chosen["tokens"].why
    # of these it looks at no more than are kept
    assert shipped.read_shipped("any")[0].probes <= choice.MOST_INPUTS
    # the same inputs are the same method, whose programs are kept
    assert choose_method(HOME, Data(inputs.copy())).method is chosen["inputs"].method
    assert choose_method(HOME, Data(inputs + 1)).method is not chosen["inputs"].method
