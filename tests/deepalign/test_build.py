"""Aligners come back from checkpoints, foreign ones are named; shared parameters serve other widths and depths."""

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
    Checkpoints,
    deep_align,
    describe,
    fit_aligner,
    load_aligner,
    make_model,
)
from dwalign.encoders import ENCODERS
from dwalign.networks import KINDS, mlp
from dwalign.networks.network import from_module
from dwalign.program import network as network_of
from dwalign.symmetry import SpecError, inverse, permute
from tests import drawn
from tests.deepalign.untrained import untrained

CONFIG = AlignerConfig(channels=4, depth=2, features=8, updates=1, probes=24, shared=True)


@pytest.fixture(scope="module")
def network():
    """With a first, a middle and a last layer, as roles need."""
    return mlp(6, (7, 5, 7), 3)


@pytest.mark.parametrize("kind, widths", [("graph", (4, 7, 5, 8, 6)), ("probe", (9, 5))])
def test_other_widths_and_depths(kind, widths, network, data):
    config = dataclasses.replace(CONFIG, encoder=kind)
    home = make_model(network, config, data.inputs)
    variables = untrained(home, drawn.weights(network.params))
    other = mlp(6, widths, 3)
    aligner = fit_aligner(Aligner(make_model(other, config, data.inputs), variables), other)
    v, planted = drawn.weights(other.params, seed=2), drawn.perms(other.spec)
    found = deep_align(other.spec, v, permute(other.spec, v, planted), aligner=aligner)
    chex.assert_trees_all_equal(found.perms, inverse(other.spec, planted))


def test_what_does_not_fit_is_named(network, data):
    alone = dataclasses.replace(CONFIG, encoder="graph", shared=False)
    variables = untrained(make_model(network, alone, data.inputs), drawn.weights(network.params))
    deeper = mlp(6, (7, 5, 7, 7), 3)
    with pytest.raises(SpecError, match="train with shared=True"):
        fit_aligner(Aligner(make_model(deeper, alone, data.inputs), variables), deeper)


def test_dws_cannot_be_shared(network, data):
    with pytest.raises(ValueError, match="take graph or probe"):
        make_model(network, dataclasses.replace(CONFIG, encoder="dws"), data.inputs)


def saved(folder, network, config, inputs):
    """The model and variables of a checkpoint that is now in the folder."""
    model = make_model(network, config, inputs)
    variables = untrained(model, drawn.weights(network.params))
    Checkpoints(folder).save(1, variables, describe(network, config, inputs))
    return model, variables


@pytest.mark.parametrize("count", [64, 10], ids=["enough", "few"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_saved_aligners_load(tmp_path, kind, count, network, data):
    config = dataclasses.replace(CONFIG, encoder=kind, shared=False)
    model, variables = saved(tmp_path / "best", network, config, data.inputs[:count])
    loaded = load_aligner(tmp_path / "best")
    chex.assert_trees_all_equal(loaded.variables, variables)
    assert loaded.model.spec == model.spec and loaded.model.updates == model.updates
    if kind == "probe":
        assert loaded.model.encoder.inputs.shape == (min(count, 24), 6)


def test_saved_aligners_with_descent_load(tmp_path, network, data):
    config = dataclasses.replace(CONFIG, encoder="graph", shared=False, descent=2, outputs="values")
    _, variables = saved(tmp_path / "best", network, config, data.inputs)
    loaded = load_aligner(tmp_path / "best")
    chex.assert_trees_all_equal(loaded.variables, variables)
    assert (loaded.model.descent, loaded.model.outputs, loaded.model.inputs.shape) == (2, "values", (24, 6))


class Words(nn.Module):
    """A network of tokens `[m, length]`."""

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(5, 4, name="embed")(x).reshape(x.shape[0], -1)
        return nn.Dense(2, name="out")(nn.relu(nn.Dense(6, name="hidden")(x)))


def words():
    return from_module(Words(), jnp.zeros((1, 3), jnp.int32), {"kind": "words"})


@pytest.mark.parametrize("count", [40, 10], ids=["enough", "few"])
def test_probes_of_tokens_are_kept(tmp_path, monkeypatch, count):
    monkeypatch.setitem(KINDS, "words", words)
    network, tokens = words(), np.random.default_rng(0).integers(0, 5, (count, 3))
    config = dataclasses.replace(CONFIG, encoder="probe", shared=False, descent=1)
    model, variables = saved(tmp_path / "best", network, config, tokens)
    loaded = load_aligner(tmp_path / "best")
    chex.assert_trees_all_equal(loaded.model.encoder.inputs, model.encoder.inputs)
    chex.assert_trees_all_equal(loaded.model.inputs, model.inputs)
    chex.assert_trees_all_equal(loaded.variables, variables)
    a = network.params
    assert {g: q.shape for g, q in jax.eval_shape(loaded.scores, a, a).items()} == {"h0": (4, 4), "h1": (6, 6)}


def test_an_aligner_of_anybodys_network_loads_with_it(tmp_path, data):
    def forward(params, x):
        return jax.nn.relu(x @ params["up"]) @ params["down"]

    make = lambda: network_of(forward, {"up": jnp.ones((6, 5)), "down": jnp.ones((5, 3))}, data.inputs)
    config = dataclasses.replace(CONFIG, encoder="probe", shared=False)
    model = make_model(make(), config, data.inputs)
    variables = jax.tree.map(jnp.ones_like, untrained(model, make().params))
    Checkpoints(tmp_path / "best").save(1, variables, describe(make(), config, data.inputs))
    loaded = load_aligner(tmp_path / "best", network=make())
    chex.assert_trees_all_equal(loaded.variables, variables)
    assert loaded.model.spec == make().spec
    with pytest.raises(CheckpointError, match="cannot build; pass network="):
        load_aligner(tmp_path / "best")


def test_checkpoints_from_before_probes_were_described(tmp_path, network, data):
    config = dataclasses.replace(CONFIG, encoder="probe", shared=False)
    model = make_model(network, config, data.inputs)
    variables = untrained(model, drawn.weights(network.params))
    info = describe(network, config, data.inputs)
    del info["probes"]
    Checkpoints(tmp_path / "best").save(1, variables, info)
    chex.assert_trees_all_equal(load_aligner(tmp_path / "best").variables, variables)


@pytest.fixture(scope="module")
def plain(network, data):
    """What a checkpoint holds: the variables of an aligner, and its description."""
    config = dataclasses.replace(CONFIG, encoder="graph", shared=False, depth=1)
    variables = untrained(make_model(network, config, data.inputs), drawn.weights(network.params))
    return variables, describe(network, config, data.inputs)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"aligner": {"encoder": "graph", "heads": 4}}, "this version of dwalign can build.*heads"),
        ({"aligner": {"encoder": "words"}}, "this version of dwalign can build.*must be one of"),
        ({"aligner": {"encoder": "dws", "shared": True}}, "this version of dwalign can build.*cannot be shared"),
        ({"network": {"kind": "words"}}, "this version of dwalign can build.*kind must be one of"),
        ({"network": {"kind": "mlp", "inputs": 6, "width": 3}}, "this version of dwalign can build.*width"),
        ({"network": None}, "this package cannot build; pass network="),
        ({"aligner": [1]}, "this version of dwalign can build"),
        ({"probes": {"dtype": "words"}}, "this version of dwalign can build"),
        ({"network": {"kind": "mlp", "inputs": 6, "widths": [7, 5], "outputs": 3}}, "one of this model"),
        ({"aligner": {"encoder": "graph"}}, "one of this model"),
    ],
)
def test_checkpoints_of_something_else_name_the_folder(tmp_path, change, message, plain):
    variables, about = plain
    Checkpoints(tmp_path / "best").save(1, variables, about | change)
    with pytest.raises(CheckpointError, match=f"best.*{message}"):
        load_aligner(tmp_path / "best")


def test_foreign_folders(tmp_path):
    Checkpoints(tmp_path / "other").save(1, {"w": jnp.ones(3)}, {"about": "something else"})
    with pytest.raises(CheckpointError, match=r"other must hold an aligner of dwalign.*\['about'\]"):
        load_aligner(tmp_path / "other")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"file must be a folder.*it is a file"):
        load_aligner(tmp_path / "file")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(CheckpointError, match="must be a writable folder"):
            Checkpoints(folder)
