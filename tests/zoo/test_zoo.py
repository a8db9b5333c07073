"""Zoos: real data in disjoint parts, independent networks, a cache that survives interruption and detects damage."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign import zoo
from dwalign.files import save_params, sealed, unsealed
from dwalign.networks import build, mlp
from dwalign.program import CLASSIFICATION, REGRESSION, Data, Task, correct, network
from dwalign.symmetry import count_networks
from tests.drawn import normal, weights as drawn_weights

NET = mlp(64, (8,), 10)
RECIPE = zoo.Recipe(epochs=3, batch_size=64, learning_rate=5e-3)
SIZE = zoo.ZooSize(train=4, validation=2, test=2)


@pytest.fixture(scope="module")
def digits():
    return zoo.load("digits")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("zoos")


@pytest.fixture(scope="module")
def made(digits, home):
    return zoo.get_zoo(NET, digits, RECIPE, SIZE, folder=home, chunk=4)


def test_digits_are_split_without_overlap(digits):
    parts = [digits.train, digits.validation, digits.test]
    assert sum(len(part.labels) for part in parts) == 1797
    whole = np.concatenate([part.inputs for part in parts])
    assert whole.shape[1:] == (8, 8, 1) and len(np.unique(whole, axis=0)) == len(whole)
    assert digits.classes == 10 and np.abs(whole).max() <= 1.0


def test_unknown_and_unprepared_data(tmp_path):
    with pytest.raises(ValueError, match="must be one of"):
        zoo.load("imagenet")
    with pytest.raises(zoo.DataError, match="download_and_prepare"):
        zoo.load("cifar10", data_dir=str(tmp_path))


def test_networks_learn_and_differ(made, digits):
    assert not made.cached
    assert [count_networks(part) for part in (made.train, made.validation, made.test)] == list(SIZE)
    outputs = jax.vmap(made.network.apply, (0, None))(made.train, jnp.asarray(digits.test.inputs))
    assert float(jax.vmap(correct, (0, None))(outputs, digits.test.labels).mean(1).min()) > 0.5
    kernels = made.train["params"]["dense_0"]["kernel"]
    assert float(jnp.abs(kernels[0] - kernels[1]).max()) > 0.1


def test_second_call_reads_the_cache(made, digits, home):
    again = zoo.get_zoo(NET, digits, RECIPE, SIZE, folder=home, chunk=4)
    assert again.cached
    chex.assert_trees_all_equal(again.train, made.train)


def test_missing_chunk_is_trained_again_to_the_same_networks(made, digits, home):
    (folder,) = home.iterdir()
    (folder / "networks-00004.safetensors").unlink()
    again = zoo.get_zoo(NET, digits, RECIPE, SIZE, folder=home, chunk=4)
    assert not again.cached
    chex.assert_trees_all_close(again.test, made.test, atol=1e-6)


def test_folder_that_cannot_be_written(digits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(zoo.ZooError, match="must be a folder that can be written"):
        zoo.get_zoo(NET, digits, RECIPE, SIZE, folder=tmp_path / "file", chunk=4)


X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)


def small_zoo(folder, recipe=None, *, labels=(0, 1, 1, 0), **options):
    """Three networks on four examples."""
    part = Data(X, np.array(labels, np.int32))
    recipe = recipe or zoo.Recipe(epochs=1, batch_size=4)
    data = zoo.Dataset("four", part, part, part, 2)
    return zoo.get_zoo(mlp(2, (3,), 2), data, recipe, zoo.ZooSize(1, 1, 1), folder=folder, chunk=4, **options)


def forward(params, inputs):
    """A network that counts its steps, and holds a mask and a random key."""
    hidden = jax.nn.relu(inputs @ params["up"]) * params["mask"][None]
    return hidden @ params["down"]


def in_training(params, inputs):
    return forward(params, inputs), params | {"step": params["step"] + 1, "key": jax.random.split(params["key"])[0]}


def drawn(key):
    up, down = (jax.random.normal(k, shape) for k, shape in zip(jax.random.split(key), [(2, 3), (3, 2)], strict=True))
    return {"up": up, "down": down, "mask": jnp.array([True, False, True]), "step": jnp.int32(0), "key": key}


@pytest.mark.parametrize("program", [forward, lambda params, inputs: jnp.tanh(forward(params, inputs))])
def test_networks_of_anybody_are_trained_and_cached(tmp_path, program):
    """Counters and keys are what training makes of them; masks and what else nobody learns stay."""
    make = lambda f: network(f, jax.eval_shape(drawn, jax.random.key(0)), X, train=in_training, init=drawn)
    part = Data(X, np.array([0, 1, 1, 0], np.int32))
    options = dict(folder=tmp_path, chunk=2)
    recipe, data = zoo.Recipe(epochs=3, batch_size=2), zoo.Dataset("four", part, part, part, 2)
    nets = zoo.get_zoo(make(program), data, recipe, zoo.ZooSize(2, 1, 1), **options)
    assert nets.train["step"].tolist() == [6, 6] and nets.train["mask"].tolist() == [[True, False, True]] * 2
    starts = [jax.random.split(jax.random.key(seed))[0] for seed in range(2)]
    assert all((drawn(key)["up"] != nets.train["up"][k]).any() for k, key in enumerate(starts))
    again = zoo.get_zoo(make(program), data, recipe, zoo.ZooSize(2, 1, 1), **options)
    assert again.cached and (again.test["key"] == nets.test["key"]).all()
    chex.assert_trees_all_equal(again.test["up"], nets.test["up"])


def test_a_network_that_nobody_can_initialise_is_named(tmp_path):
    part = Data(X, np.array([0, 1, 1, 0], np.int32))
    net = network(forward, jax.eval_shape(drawn, jax.random.key(0)), X)
    data = zoo.Dataset("four", part, part, part, 2)
    with pytest.raises(ValueError, match=r"how parameters are initialised is not known; pass init=, key -> params"):
        zoo.get_zoo(net, data, zoo.Recipe(batch_size=2), zoo.ZooSize(1, 1, 1), folder=tmp_path)


def test_networks_that_diverge_are_not_kept(tmp_path):
    with pytest.raises(zoo.ZooError, match=r"networks-00000\.safetensors.*found 3 of 3.*lower the learning rate"):
        small_zoo(tmp_path, zoo.Recipe(epochs=4, batch_size=4, learning_rate=1e38))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_networks_that_are_not_finite_are_found_in_the_cache(tmp_path):
    made = small_zoo(tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    params = jax.tree.map(lambda x: np.stack([x] * 4), jax.tree.map(lambda x: np.asarray(x[0]), made.train))
    bias = params["params"]["dense_0"]["bias"]
    bias[3] = np.nan  # of the chunk, not of the zoo
    save_params(file, params)
    assert small_zoo(tmp_path).cached
    bias[1, 2] = np.inf
    save_params(file, params)
    with pytest.raises(zoo.ZooError, match=r"networks-00000\.safetensors.*found 1 of 3.*lower the learning rate"):
        small_zoo(tmp_path)


def test_a_cache_that_is_damaged_or_counts_otherwise_is_refused(tmp_path):
    made = small_zoo(tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(zoo.ZooError, match=r"networks-00000\.safetensors: .*checksum is another.*trains its networks"):
        small_zoo(tmp_path)
    for count in (3, 5):
        save_params(file, jax.tree.map(lambda x, count=count: np.stack([np.asarray(x[0])] * count), made.train))
        with pytest.raises(zoo.ZooError, match=rf"must hold 4 networks, found \[{count}\]; delete it"):
            small_zoo(tmp_path)
    file.write_bytes(data)
    assert small_zoo(tmp_path).cached
    surplus = file.with_name("networks-00002.safetensors")
    surplus.write_bytes(data)
    with pytest.raises(zoo.ZooError, match=r"networks-00002\.safetensors must begin at a multiple of 4"):
        small_zoo(tmp_path)
    surplus.unlink()
    config = file.with_name("config.json")
    config.write_text(config.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(zoo.ZooError, match=r"config\.json must be a readable .*its checksum is of other content"):
        small_zoo(tmp_path)
    config.write_text(json.dumps(sealed(json.loads(config.read_text()))))
    with pytest.raises(zoo.ZooError, match=r"config\.json.*seed 0, found 1"):
        small_zoo(tmp_path)


def test_a_complete_cache_is_only_read(tmp_path, monkeypatch):
    small_zoo(tmp_path)

    def fail(*_, **__):
        raise OSError("read-only file system")

    monkeypatch.setattr("dwalign.zoo.storage.write_bytes", fail)
    monkeypatch.setattr("pathlib.Path.mkdir", fail)
    assert small_zoo(tmp_path).cached


def test_a_cache_of_other_labels_or_another_loss_is_refused(tmp_path):
    small_zoo(tmp_path)
    assert small_zoo(tmp_path, task=CLASSIFICATION).cached
    with pytest.raises(zoo.ZooError, match=r"config\.json.*trained with labels"):
        small_zoo(tmp_path, labels=(1, 1, 0, 0))
    other = Task(lambda outputs, labels: (outputs.sum(-1) - labels).mean())
    with pytest.raises(zoo.ZooError, match=r"trained with loss <lambda>, found cross_entropy"):
        small_zoo(tmp_path, task=other)
    (file,) = tmp_path.rglob("config.json")
    config = unsealed(json.loads(file.read_text()))
    file.write_text(json.dumps({name: value for name, value in config.items() if name not in ("labels", "loss")}))
    assert small_zoo(tmp_path, task=other).cached, "caches from before these were recorded are accepted"
    file.write_text("{")
    with pytest.raises(zoo.ZooError, match=r"config\.json must be a readable"):
        small_zoo(tmp_path)


def test_the_learning_rate_rises_and_falls():
    rate = zoo.Recipe(learning_rate=2.0, warm_up=0.1).rate(100)
    found = np.array([rate(k) for k in range(101)])
    assert found[0] == 0 and found.argmax() == 10 and found[10] == 2.0 and abs(found[100]) < 1e-6
    np.testing.assert_allclose(found[55], 1.0, rtol=1e-5)
    assert (np.diff(found[:11]) > 0).all() and (np.diff(found[10:]) < 0).all()
    assert zoo.Recipe(warm_up=0.0).rate(3)(1) == zoo.Recipe().rate(3) == zoo.Recipe().learning_rate


def test_a_schedule_names_a_cache_of_its_own(tmp_path):
    """While zoos of a constant rate keep the names that they had before there were schedules."""
    recipe = zoo.Recipe(epochs=2, batch_size=2)
    constant = small_zoo(tmp_path, recipe)
    (file,) = tmp_path.rglob("config.json")
    assert "warm_up" not in json.loads(file.read_text())["recipe"]
    scheduled = small_zoo(tmp_path, dataclasses.replace(recipe, warm_up=0.5))
    assert not scheduled.cached and len(list(tmp_path.iterdir())) == 2
    change = jax.tree.map(lambda one, two: float(jnp.abs(one - two).max()), constant.train, scheduled.train)
    assert all(x > 0 for x in jax.tree.leaves(change))


def test_pairs():
    first, second = zoo.random_pairs(jax.random.key(0), 5, 200)
    assert bool((first != second).all()) and set(np.asarray(first)) == set(range(5)) == set(np.asarray(second))
    first, second = zoo.held_out_pairs(7)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(6))


@pytest.mark.parametrize("kind", ["noise", "zeroing", "quantile"])
def test_augmentations_change_weights_a_little(kind):
    net = mlp(6, (20, 20), 3)
    params = drawn_weights(net.params)
    none = zoo.Augmentation(noise=0, zeroing=0, quantile=0, scaling=0)
    augment = jax.jit(lambda options: zoo.augment(net.spec, params, jax.random.key(1), options), static_argnums=0)
    chex.assert_trees_all_equal(augment(none), params)
    kernel = lambda tree: tree["params"]["dense_1"]["kernel"]
    change = kernel(augment(dataclasses.replace(none, **{kind: 0.1}))) - kernel(params)
    share = float((change != 0).mean())
    assert (share > 0.9) if kind == "noise" else (0.02 < share < 0.2)
    assert float(jnp.linalg.norm(change)) < 0.6 * float(jnp.linalg.norm(kernel(params)))


def test_variances_stay_positive():
    """Noise as large as their spread would make some negative, and the network's outputs not finite."""
    net = build(dict(kind="vgg", shape=[4, 4, 1], stages=[[6]], widths=[], outputs=3, norm="batch"))
    params = drawn_weights(net.params)
    norms = lambda tree: jax.tree.leaves(tree["batch_stats"], is_leaf=lambda node: "var" in node)
    variance = lambda tree: jnp.concatenate([norm["var"] for norm in norms(tree)])
    params["batch_stats"] = jax.tree.map(lambda x: jnp.linspace(0.01, 1, len(x)), params["batch_stats"])
    strong = zoo.Augmentation(noise=1.0, zeroing=0.5, quantile=0.5, scaling=0)
    found = variance(jax.jit(lambda params: zoo.augment(net.spec, params, jax.random.key(1), strong))(params))
    assert bool((found > 0).all()) and bool((found != variance(params)).all())


def test_positive_scaling_keeps_the_function():
    net = mlp(6, (20, 20), 3)
    params = drawn_weights(net.params)
    only = zoo.Augmentation(noise=0, zeroing=0, quantile=0, scaling=0.5)
    scaled = jax.jit(lambda params: zoo.augment(net.spec, params, jax.random.key(1), only))(params)
    x = normal(9, 6, seed=2)
    assert float(jnp.abs(scaled["params"]["dense_0"]["kernel"] - params["params"]["dense_0"]["kernel"]).max()) > 0.1
    chex.assert_trees_all_close(net.apply(scaled, x), net.apply(params, x), atol=1e-5)


def test_pairs_of_views():
    first, second = zoo.random_pairs(jax.random.key(0), 12, 300, views=3)
    assert bool((first != second).all()) and bool((first // 3 == second // 3).all())
    assert set(np.asarray(first)) == set(range(12)) == set(np.asarray(second))
    first, second = zoo.held_out_pairs(10, views=5)
    assert first.tolist() == [0, 2, 5, 7] and second.tolist() == [1, 3, 6, 8]


def test_networks_learn_signals_of_their_own(tmp_path):
    """Networks 2 k and 2 k + 1 learn signal k, whatever the chunks are."""
    line = np.broadcast_to(np.linspace(-1, 1, 16, dtype=np.float32)[:, None], (3, 16, 1)).copy()
    signals = Data(line, line * np.array([-1, 1, 3], np.float32)[:, None, None])
    data = zoo.Dataset("lines", signals, signals, signals, 1)
    net = mlp(1, (16,), 1)
    options = dict(folder=tmp_path, chunk=4, task=REGRESSION, views=2)
    recipe = zoo.Recipe(epochs=300, batch_size=16, learning_rate=1e-2)
    nets = zoo.get_zoo(net, data, recipe, zoo.ZooSize(2, 2, 2), **options)
    for k, part in enumerate((nets.train, nets.validation, nets.test)):
        outputs = jax.vmap(nets.network.apply, (0, None))(part, line[k])
        assert float(((outputs - signals.labels[k][None]) ** 2).mean()) < 0.05
    assert zoo.get_zoo(net, data, recipe, zoo.ZooSize(2, 2, 2), **options).cached
    with pytest.raises(ValueError, match="all 2 >= 2 views"):
        zoo.get_zoo(net, data, recipe, zoo.ZooSize(3, 1, 2), **options)
    with pytest.raises(ValueError, match="8 networks need 4 signals"):
        zoo.get_zoo(net, data, recipe, zoo.ZooSize(4, 2, 2), **options)
